-- Take copied rows in.
COPY kine (id, name, created, deleted, create_revision, prev_revision, lease, value, old_value)
FROM STDIN (FORMAT binary)
