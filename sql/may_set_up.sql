-- Whether this role is a superuser, and whether a superuser has set this database up already.
SELECT rolsuper AS superuser, to_regproc('kine_failover_admin.subscribe') IS NOT NULL AS set_up
FROM pg_roles WHERE rolname = current_user
