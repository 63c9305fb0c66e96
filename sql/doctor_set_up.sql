-- What a superuser has set up: the version of its functions, and whether pg_hba.conf keeps Kine out at a start.
SELECT kine_failover_admin.version() AS functions, error AS hba_error, fenced AS hba_fenced
FROM kine_failover_admin.look_at_hba()
