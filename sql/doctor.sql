-- Everything that `doctor` looks at and that every role may see.
SELECT
  current_setting('server_version_num')::int AS version_num,
  current_setting('server_version') AS version,
  current_user AS supervisor,
  (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
  (SELECT rolreplication FROM pg_roles WHERE rolname = current_user) AS replication,
  (SELECT rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls
    FROM pg_roles WHERE rolname = %(kine_role)s) AS kine_too_strong,
  (SELECT pg_has_role(current_user, oid, 'USAGE') FROM pg_roles WHERE rolname = %(kine_role)s) AS owns_tables,
  pg_has_role(current_user, 'pg_monitor', 'USAGE') AS monitors,
  pg_has_role(current_user, 'pg_checkpoint', 'USAGE') AS checkpoints,
  has_parameter_privilege(current_user, 'synchronous_standby_names', 'ALTER SYSTEM') AS sets_waits,
  has_function_privilege(current_user, 'pg_reload_conf()', 'EXECUTE') AS reloads,
  has_database_privilege(current_user, current_database(), 'CREATE') AS creates,
  to_regproc('kine_failover_admin.version') IS NOT NULL AS set_up,
  -- What new sessions have: over a unix socket the settings of TCP are shown as 0 whatever they are.
  (SELECT json_object_agg(name, reset_val) FROM pg_settings WHERE name IN (
    'wal_level', 'track_commit_timestamp', 'restart_after_crash', 'fsync', 'full_page_writes',
    'max_replication_slots', 'max_connections', 'max_slot_wal_keep_size', 'password_encryption',
    'tcp_keepalives_idle', 'tcp_user_timeout', 'wal_retrieve_retry_interval')) AS settings
