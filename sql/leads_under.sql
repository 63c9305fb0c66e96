-- The lineage row under which this database is open to Kine; none where it is closed.
SELECT l.id FROM kine_failover.lineage AS l
WHERE (SELECT rolcanlogin FROM pg_roles WHERE rolname = %(kine_role)s)
  AND kine_failover_admin.start_fence_lifted()
ORDER BY l.ordinal DESC LIMIT 1
