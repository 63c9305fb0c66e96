-- Delete, in the next rows up from one revision, what Kine's own compaction would have: what was replaced, and what says that a key is
-- gone. Upwards, so that no row is deleted before what it had replaced: the key would be back. Kine never looks below the compaction revision, so nobody
-- else comes here. Only where Kine may log in, which is the leader's database alone: elsewhere the copies would part.
-- Returns the last revision looked at, NULL behind the last one, and how many were deleted.
WITH here AS MATERIALIZED (
  SELECT k.id, k.prev_revision, k.deleted FROM kine AS k
  WHERE k.id > %(above)s
    AND k.id <= (SELECT c.prev_revision FROM kine AS c WHERE c.name = 'compact_rev_key')
    AND k.name <> 'compact_rev_key'
    AND (SELECT rolcanlogin FROM pg_roles WHERE rolname = %(kine_role)s)
    AND kine_failover_admin.start_fence_lifted()
  ORDER BY k.id LIMIT %(most)s
), swept AS (
  DELETE FROM kine WHERE id IN (
    SELECT h.prev_revision FROM here AS h WHERE h.prev_revision <> 0
    UNION ALL
    SELECT h.id FROM here AS h WHERE h.deleted <> 0
  )
  RETURNING 1
)
SELECT (SELECT max(id) FROM here) AS upto, (SELECT count(*) FROM swept) AS swept
