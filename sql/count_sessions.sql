-- Kine's sessions: all, and those that run a statement.
SELECT count(*) AS sessions, count(*) FILTER (WHERE state NOT IN ('idle', 'idle in transaction')) AS active
FROM pg_stat_activity WHERE usename = %(kine_role)s
