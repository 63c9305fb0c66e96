-- Everything that `doctor` looks at.
SELECT
  current_setting('server_version_num')::int AS version_num,
  current_setting('server_version') AS version,
  (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
  (SELECT json_object_agg(name, setting) FROM pg_settings WHERE name IN (
    'wal_level', 'track_commit_timestamp', 'restart_after_crash', 'fsync', 'full_page_writes',
    'max_replication_slots', 'max_slot_wal_keep_size')) AS settings,
  (SELECT error FROM pg_hba_file_rules WHERE error IS NOT NULL LIMIT 1) AS hba_error,
  -- The rules list what an @file says as if it stood in the line: the line itself has to be read.
  position('@' IN coalesce(pg_read_file(current_setting('hba_file'), 0, 1048576, true), '')) > 0
  AND NOT EXISTS (
    SELECT FROM regexp_split_to_table(
      coalesce(pg_read_file(current_setting('hba_file'), 0, 1048576, true), ''), E'\n') AS line
    WHERE line !~ '^\s*#' AND line ~ ('^\s*(local|host\w*)\s+\S+\s+\S*(\m' || %(kine_role)s || '\M(?!_)|\mall\M)')
  ) AS hba_fenced
