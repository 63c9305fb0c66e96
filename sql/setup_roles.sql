-- Both roles, and what the supervisor's may do by itself. Run by a superuser, in the pair's database, as often as one likes.
SELECT set_config('client_min_messages', 'warning', true)
;;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = %(supervisor)s) THEN
    EXECUTE format('CREATE ROLE %%I NOSUPERUSER', %(supervisor)s);
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = %(kine_role)s) THEN
    EXECUTE format('CREATE ROLE %%I NOLOGIN', %(kine_role)s);
  END IF;
  -- It makes slots on the leader and streams from them.
  EXECUTE format('ALTER ROLE %%I LOGIN REPLICATION', %(supervisor)s);
  -- The tables are Kine's: who is a member may swap them, and may end Kine's sessions.
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = %(supervisor)s) THEN
    EXECUTE format('GRANT %%I, pg_monitor, pg_checkpoint TO %%I', %(kine_role)s, %(supervisor)s);
    EXECUTE format('ALTER DATABASE %%I OWNER TO %%I', current_database(), %(supervisor)s);
  END IF;
  EXECUTE format('GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO %%I', %(supervisor)s);
  EXECUTE format('GRANT EXECUTE ON FUNCTION pg_reload_conf() TO %%I', %(supervisor)s);
  -- Kine asks for its table with IF NOT EXISTS at each start, and needs the right to create it even then.
  EXECUTE format('GRANT USAGE, CREATE ON SCHEMA public TO %%I', %(kine_role)s);
  EXECUTE format('GRANT USAGE, CREATE ON SCHEMA public TO %%I', %(supervisor)s);
  EXECUTE format('ALTER ROLE %%I SET synchronous_commit = on', %(kine_role)s);
  -- A superuser always finds a session free; the supervisor does because Kine is kept from taking the last ones.
  -- The files may already say more than takes effect with the next restart.
  EXECUTE format('ALTER ROLE %%I CONNECTION LIMIT %%s', %(kine_role)s,
    greatest(5, greatest(current_setting('max_connections')::int,
      (SELECT setting::int FROM pg_file_settings WHERE name = 'max_connections' ORDER BY seqno DESC LIMIT 1))
      - current_setting('superuser_reserved_connections')::int - 20));
END $$
