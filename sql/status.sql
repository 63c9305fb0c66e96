-- One look at the own Postgres, in one statement, as one JSON text: it is asked several times a second, so the server plans it
-- once a session, and a text has the same type whatever table takes the kine table's place. `scanned` is the highest
-- revision whose changes were counted already, `known` the lineage that the caller has: it is not sent again.
WITH head AS (
  SELECT count(*) || ' ' || coalesce((array_agg(id ORDER BY ordinal DESC))[1], '') AS version FROM kine_failover.lineage
), top AS (
  SELECT coalesce(max(id), 0) AS revision FROM kine
), fresh AS (
  -- Keys that beat by themselves say nothing about what people did.
  SELECT id, pg_xact_commit_timestamp(xmin) AS at
  FROM kine
  -- A plan for any `scanned` takes the index only where both ends are given.
  WHERE id > %(scanned)s::bigint AND id <= (SELECT revision FROM top)
    AND name <> 'compact_rev_key' AND name NOT LIKE 'gap-%%'
    AND name NOT LIKE '/registry/leases/%%' AND name NOT LIKE '/registry/events/%%'
    AND name NOT LIKE '/registry/masterleases/%%' AND name NOT LIKE '/kine-failover/%%'
), newest AS (
  SELECT id, at FROM fresh ORDER BY id DESC LIMIT 1
)
SELECT to_json(look)::text AS look FROM (SELECT
  (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS started_at_us,
  local.data,
  local.fence_term,
  head.version AS lineage_version,
  CASE WHEN head.version IS DISTINCT FROM %(known)s::text THEN
    (SELECT coalesce(json_agg(to_json(l) ORDER BY l.ordinal), '[]'::json) FROM kine_failover.lineage AS l)
  END AS lineage,
  top.revision AS visible_revision,
  (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint AS wal_lsn,
  (SELECT rolcanlogin FROM pg_roles WHERE rolname = %(kine_role)s::text)
    AND kine_failover_admin.start_fence_lifted() AS is_open,
  current_setting('synchronous_standby_names') AS waits_for,
  (SELECT json_build_object(
      'name', r.application_name, 'streaming', r.state = 'streaming',
      'flush_lsn', coalesce((r.flush_lsn - '0/0'::pg_lsn)::bigint, 0),
      'reply', extract(epoch FROM r.reply_time),
      'flush_lag', coalesce(extract(epoch FROM r.flush_lag), 0))
    FROM pg_stat_replication AS r
    WHERE r.application_name LIKE 'kf\_%%'
    ORDER BY r.backend_start DESC LIMIT 1) AS standby,
  (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - a.query_start)), 0)::float8
    FROM pg_stat_activity AS a WHERE a.wait_event = 'SyncRep') AS oldest_wait_s,
  (SELECT json_build_object(
      'name', s.subname, 'enabled', s.subenabled, 'worker', w.pid IS NOT NULL,
      -- A worker that has only been launched gives the time of that; it has received something once there is a position.
      'received', CASE WHEN w.received_lsn IS NOT NULL THEN extract(epoch FROM w.last_msg_receipt_time) END,
      'age', extract(epoch FROM clock_timestamp() - w.last_msg_receipt_time),
      'tables_ready', NOT EXISTS (
        SELECT FROM pg_subscription_rel AS t WHERE t.srsubid = s.oid AND t.srsubstate <> 'r'),
      'apply_errors', coalesce(e.apply_error_count, 0))
    FROM pg_subscription AS s
    LEFT JOIN pg_stat_subscription AS w ON w.subid = s.oid AND w.relid IS NULL
    LEFT JOIN pg_stat_subscription_stats AS e ON e.subid = s.oid
    WHERE s.subname LIKE 'kf\_%%' AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    ORDER BY s.oid DESC LIMIT 1) AS subscription,
  (SELECT json_build_object('revision', newest.id,
      'commit_us', (extract(epoch FROM newest.at) * 1000000)::bigint) FROM newest) AS last_change,
  (SELECT count(*) FROM fresh) AS changes,
  (SELECT coalesce(max(pg_current_wal_lsn() - p.restart_lsn), 0)::bigint
    FROM pg_replication_slots AS p WHERE p.slot_name LIKE 'kf\_%%') AS slot_bytes,
  pg_size_bytes(current_setting('max_slot_wal_keep_size')) AS slot_limit_bytes
FROM kine_failover.local_state AS local, head, top
) AS look
