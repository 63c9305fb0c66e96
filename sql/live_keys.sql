-- The newest row of every key that is not deleted.
SELECT name, id FROM (
  SELECT DISTINCT ON (name) name, id, deleted FROM kine
  WHERE name <> 'compact_rev_key' AND name NOT LIKE 'gap-%%' ORDER BY name, id DESC
) AS newest WHERE deleted = 0
