-- Rows as they are, with the time of their commit.
SELECT id, name, created, deleted, create_revision, prev_revision, lease, value, old_value,
  (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint AS commit_us
FROM kine WHERE id = ANY(%(ids)s) ORDER BY id
