-- Position in the own WAL, bytes.
SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint AS lsn
