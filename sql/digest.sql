-- One line for each 1,024 revisions: equal lines mean equal rows. A row never changes once it is written, but for the
-- one that holds the compaction revision; below `parting` the ids are therefore enough.
SELECT id >> 10 AS chunk, count(*) AS rows,
  bit_xor(CASE WHEN id >= %(parting)s OR name = 'compact_rev_key'
      THEN hashtextextended(k::text, 0) ELSE hashint8extended(id, 0) END) AS digest
FROM kine AS k GROUP BY 1
