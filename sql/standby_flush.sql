-- How far one standby has flushed, bytes; no row when it does not stream.
SELECT coalesce((flush_lsn - '0/0'::pg_lsn)::bigint, 0) AS flush_lsn
FROM pg_stat_replication WHERE application_name = %(standby)s
