-- What the slots of this product keep, bytes of WAL.
SELECT slot_name, coalesce(wal_status, 'lost') AS wal_status,
  coalesce(pg_current_wal_lsn() - restart_lsn, 0)::bigint AS bytes
FROM pg_replication_slots WHERE slot_name LIKE 'kf\_%%' ORDER BY slot_name
