-- A leadership begins: one gap row above everything that any client may have seen, the sequence set to it, the
-- compaction revision raised for a full fence, and the lineage row that makes it so.
--
-- Kine never looks below the compaction revision again. What was replaced or deleted since the last compaction would stay for
-- ever, and be the newest row of its key once the ones above it are compacted: the key would be back. So it is deleted here, as
-- Kine would have (docs/facts.md). Where it is more than a promotion can wait for, sweep.sql does it while the leader serves.
--
-- The table is locked only where a Kine may still write into it: the lock has to wait for a vacuum, a second until Postgres
-- ends that, and longer for one against wraparound. Nothing writes on a node that follows, as its database is closed to Kine and its
-- subscription is gone by now.
LOCK TABLE kine_failover.lineage IN SHARE ROW EXCLUSIVE MODE
;;
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = %(kine_role)s AND rolcanlogin)
    OR EXISTS (SELECT FROM pg_stat_activity WHERE usename = %(kine_role)s) THEN
    LOCK TABLE kine IN SHARE ROW EXCLUSIVE MODE;
  END IF;
END $$
;;
CREATE TEMPORARY TABLE beginning ON COMMIT DROP AS
SELECT
  coalesce(max(k.id), 0)::bigint AS parent,
  least(
    greatest(coalesce(max(k.id), 0), %(clear)s::bigint) + %(margin)s::bigint,
    -- Tables made by old versions of Kine have int4 ids: never run into their end by a fence.
    CASE WHEN (SELECT atttypid = 'int4'::regtype FROM pg_attribute
               WHERE attrelid = 'kine'::regclass AND attname = 'id')
      THEN greatest(2147483647 - 1000000, coalesce(max(k.id), 0) + 1) ELSE 9223372036854775807 END
  )::bigint AS gap
FROM kine AS k
;;
INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value, old_value)
SELECT gap, 'gap-' || gap, 0, 1, 0, 0, 0, NULL, NULL FROM beginning
;;
SELECT setval(pg_get_serial_sequence('kine', 'id'), gap) FROM beginning
;;
WITH since AS (
  SELECT c.prev_revision AS low, b.parent AS high FROM beginning AS b, kine AS c
  WHERE c.name = 'compact_rev_key' AND %(full)s
    AND b.parent - c.prev_revision <= %(compacted_most)s
)
DELETE FROM kine WHERE id IN (
  SELECT later.prev_revision FROM kine AS later, since
  WHERE later.id > since.low AND later.id <= since.high AND later.prev_revision <> 0 AND later.name <> 'compact_rev_key'
  UNION ALL
  SELECT gone.id FROM kine AS gone, since
  WHERE gone.id > since.low AND gone.id <= since.high AND gone.deleted <> 0
)
;;
UPDATE kine SET prev_revision = (SELECT gap - 1 FROM beginning)
WHERE name = 'compact_rev_key' AND %(full)s
;;
INSERT INTO kine_failover.lineage
  (id, ordinal, term, node, kind, reason, started_at_us, first_revision, parent_revision, provisional, absorbs)
SELECT %(id)s, (SELECT max(l.ordinal) + 1 FROM kine_failover.lineage AS l), %(term)s, %(node)s, %(kind)s, %(reason)s,
  %(started_at_us)s, gap, parent, %(provisional)s, %(absorbs)s
FROM beginning
RETURNING first_revision, parent_revision
