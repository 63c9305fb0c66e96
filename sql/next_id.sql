-- The first revision from here on, and the newest of all; null where there is none.
SELECT (SELECT min(id) FROM kine WHERE id >= %(low)s) AS id, (SELECT max(id) FROM kine) AS newest
