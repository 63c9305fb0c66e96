-- The keys that some rows are of.
SELECT DISTINCT name FROM kine WHERE id = ANY(%(ids)s)
