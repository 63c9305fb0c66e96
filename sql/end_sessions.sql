-- End Kine's sessions: `waiting` false for those that do not wait for the follower, true for all that are left.
SELECT count(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity
WHERE usename = %(kine_role)s AND (%(waiting)s OR wait_event IS DISTINCT FROM 'SyncRep')
