-- Kine's sessions: all, those that run a statement, and those that wait for the follower.
SELECT count(*) AS sessions,
  count(*) FILTER (WHERE state NOT IN ('idle', 'idle in transaction')) AS active,
  count(*) FILTER (WHERE wait_event = 'SyncRep') AS waiting
FROM pg_stat_activity WHERE usename = %(kine_role)s
