-- Rows that the leader does not have; they are in an archive by now.
DELETE FROM kine WHERE id = ANY(%(ids)s)
