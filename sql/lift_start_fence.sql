-- Name Kine's role in the file that pg_hba.conf includes; before each start of Postgres another name is put there (R11).
SELECT kine_failover_admin.lift_start_fence()
