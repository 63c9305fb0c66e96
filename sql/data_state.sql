-- What this database is, locked against a change until the transaction ends.
SELECT data, fence_term, (SELECT count(*) FROM kine_failover.lineage) AS rows
FROM kine_failover.local_state FOR UPDATE
