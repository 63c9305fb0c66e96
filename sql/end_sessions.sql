-- End Kine's sessions, all in one go and in this order: idle ones, at work, waiting for the follower. When an insert fails
-- no other session is left through which Kine could read that the key is not there: it would acknowledge the insert (R20).
SELECT count(pg_terminate_backend(pid)) AS ended
FROM (
  SELECT pid FROM pg_stat_activity WHERE usename = %(kine_role)s
  ORDER BY CASE WHEN state = 'idle' THEN 0 WHEN wait_event IS DISTINCT FROM 'SyncRep' THEN 1 ELSE 2 END
  LIMIT 10000
) AS in_order
