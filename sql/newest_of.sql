-- The newest row of some keys, deleted ones included.
SELECT DISTINCT ON (name) name, id, deleted <> 0 AS deleted FROM kine WHERE name = ANY(%(names)s) ORDER BY name, id DESC
