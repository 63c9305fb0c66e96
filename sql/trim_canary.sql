-- Remove what the canaries have written before their newest flights: without an API server nobody compacts, and their keys
-- would fill the table. Only where Kine may log in, which is the leader's database alone: elsewhere the copies would part.
DELETE FROM kine
WHERE id IN (
    SELECT id FROM (
      SELECT id, row_number() OVER (PARTITION BY name ORDER BY id DESC) AS age
      FROM kine WHERE name = ANY(%(names)s)
    ) AS flights WHERE age > %(keep)s)
  AND (SELECT rolcanlogin FROM pg_roles WHERE rolname = %(kine_role)s)
  AND kine_failover_admin.start_fence_lifted()
