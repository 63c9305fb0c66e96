-- Settings that somebody has set. Commands and connection strings are left out: they may hold passwords.
SELECT name, setting, unit, source, pending_restart FROM pg_settings
WHERE source NOT IN ('default', 'override')
  AND name !~ '(conninfo|_command|passphrase|_library|_libraries)' ORDER BY name
