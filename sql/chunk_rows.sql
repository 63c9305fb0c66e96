-- Every row of some chunks by id and content.
SELECT id, hashtextextended(k::text, 0) AS content FROM kine AS k WHERE id >> 10 = ANY(%(chunks)s)
