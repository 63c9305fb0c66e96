-- How replication stands, without connection strings and without any statement's text.
SELECT
  (SELECT coalesce(json_agg(r), '[]') FROM pg_stat_replication AS r) AS stat_replication,
  (SELECT coalesce(json_agg(s), '[]') FROM pg_replication_slots AS s) AS replication_slots,
  (SELECT coalesce(json_agg(s), '[]') FROM pg_stat_subscription AS s) AS stat_subscription,
  (SELECT coalesce(json_agg(s), '[]') FROM pg_stat_subscription_stats AS s) AS stat_subscription_stats,
  (SELECT coalesce(json_agg(json_build_object('name', s.subname, 'enabled', s.subenabled, 'slot', s.subslotname,
      'publications', s.subpublications)), '[]') FROM pg_subscription AS s) AS subscriptions,
  (SELECT coalesce(json_agg(p), '[]') FROM pg_publication_tables AS p) AS publication_tables,
  (SELECT coalesce(json_agg(l ORDER BY l.ordinal), '[]')
    FROM (SELECT * FROM kine_failover.lineage ORDER BY ordinal DESC LIMIT 200) AS l) AS lineage,
  (SELECT json_agg(l) FROM kine_failover.local_state AS l) AS local_state,
  (SELECT coalesce(json_agg(a), '[]') FROM (
      SELECT datname, usename, application_name, state, wait_event_type, wait_event, count(*) AS sessions,
        max(extract(epoch FROM clock_timestamp() - xact_start)) AS oldest_transaction_s
      FROM pg_stat_activity GROUP BY 1, 2, 3, 4, 5, 6) AS a) AS sessions
