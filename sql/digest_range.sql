-- As `digest`, of some revisions only, contents included: equal lines mean equal rows.
SELECT id >> 10 AS chunk, count(*) AS rows, bit_xor(hash_record_extended(k, 0)) AS digest
FROM kine AS k WHERE id >= %(low)s AND id < %(high)s GROUP BY 1
