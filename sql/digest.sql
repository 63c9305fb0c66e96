-- One line for each 1,024 revisions: equal lines mean equal rows. A row never changes once it is written, but for the
-- one that holds the compaction revision; below `parting` the ids are therefore enough.
SELECT chunk, sum(rows)::bigint AS rows, bit_xor(digest) AS digest
FROM (
  SELECT id >> 10 AS chunk, count(*) AS rows, bit_xor(hashint8extended(id, 0)) AS digest
  FROM kine WHERE id < %(parting)s GROUP BY 1
  UNION ALL
  SELECT id >> 10, count(*), bit_xor(hash_record_extended(k, 0))
  FROM kine AS k WHERE id >= %(parting)s OR name = 'compact_rev_key' GROUP BY 1
) AS halves
GROUP BY chunk
