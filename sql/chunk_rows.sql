-- Every row of some chunks by id and content.
SELECT k.id, hash_record_extended(k, 0) AS content
FROM unnest(%(chunks)s::bigint[]) AS chunk
JOIN kine AS k ON k.id >= chunk << 10 AND k.id < (chunk + 1) << 10
