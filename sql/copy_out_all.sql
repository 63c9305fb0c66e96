-- The whole table, in the format of COPY.
COPY (SELECT id, name, created, deleted, create_revision, prev_revision, lease, value, old_value
  FROM kine ORDER BY id) TO STDOUT (FORMAT binary)
