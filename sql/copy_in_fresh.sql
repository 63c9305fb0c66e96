-- Take a whole table in, beside the one in use.
COPY kine_failover.fresh (id, name, created, deleted, create_revision, prev_revision, lease, value, old_value)
FROM STDIN (FORMAT binary)
