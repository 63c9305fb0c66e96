-- What takes a superuser, as functions that do exactly that and nothing else, which the supervisor's role may call. Run by
-- a superuser, in the pair's database, as often as one likes.
SELECT set_config('client_min_messages', 'warning', true)
;;
CREATE SCHEMA IF NOT EXISTS kine_failover_admin
;;
CREATE OR REPLACE FUNCTION kine_failover_admin.version() RETURNS integer LANGUAGE sql IMMUTABLE
AS $$ SELECT 1 $$
;;
-- Let Kine's role log in, or keep it out. (CREATEROLE would do, and with it much more: before Postgres 16, everything.)
CREATE OR REPLACE FUNCTION kine_failover_admin.admit_kine(allowed boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ BEGIN
  EXECUTE format('ALTER ROLE %%I ', %(kine_role)s) || CASE WHEN allowed THEN 'LOGIN' ELSE 'NOLOGIN' END;
END $$
;;
-- Name Kine's role in the file that pg_hba.conf includes; before each start of Postgres another name is put there (R11).
CREATE OR REPLACE FUNCTION kine_failover_admin.lift_start_fence() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ BEGIN
  EXECUTE format('COPY (SELECT %%L) TO %%L', %(kine_role)s, current_setting('data_directory') || '/kine_failover_open');
END $$
;;
CREATE OR REPLACE FUNCTION kine_failover_admin.start_fence_lifted() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT btrim(coalesce(pg_read_file('kine_failover_open', 0, 64, true), ''), E'\n') = %(kine_role)s $$
;;
-- Stream on from a slot whose snapshot was copied. Flushed means durable here: the leader waits for it. Changes are applied
-- with the rights of the caller: as a superuser, a trigger that Kine's role puts on its table would run as one.
CREATE OR REPLACE FUNCTION kine_failover_admin.subscribe(name text, conninfo text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  modern boolean := current_setting('server_version_num')::int >= 160000;
  plain boolean := NOT (SELECT rolsuper FROM pg_roles WHERE rolname = session_user);
BEGIN
  IF name !~ '^kf_[a-z0-9_]{1,50}$' THEN
    RAISE EXCEPTION 'not a name of ours: %%', name;
  END IF;
  EXECUTE format('CREATE SUBSCRIPTION %%I CONNECTION %%L PUBLICATION kine_failover WITH (create_slot = false, '
    'slot_name = %%L, copy_data = false, synchronous_commit = ''on''%%s)', name, conninfo, name,
    CASE WHEN modern AND plain THEN ', password_required = ' || %(password_required)s END);
  -- Postgres 15 gives a subscription to superusers only, and lets it stay with one who is none any more. Nobody sees the
  -- moment in between: it is inside this transaction.
  IF plain AND NOT modern THEN
    EXECUTE format('ALTER ROLE %%I SUPERUSER', session_user);
  END IF;
  EXECUTE format('ALTER SUBSCRIPTION %%I OWNER TO %%I', name, session_user);
  IF plain AND NOT modern THEN
    EXECUTE format('ALTER ROLE %%I NOSUPERUSER', session_user);
  END IF;
EXCEPTION WHEN OTHERS THEN
  -- Raised anew: the statement that failed holds the password, and the server's log would quote it.
  RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = SQLERRM;
END $$
;;
-- Drop the subscription and leave the remote slot alone: the remote may be gone, and its own slots are its own business.
CREATE OR REPLACE FUNCTION kine_failover_admin.unsubscribe() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE one record;
BEGIN
  FOR one IN SELECT subname FROM pg_subscription WHERE subname LIKE 'kf\_%%'
    AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  LOOP
    EXECUTE format('ALTER SUBSCRIPTION %%I DISABLE', one.subname);
    EXECUTE format('ALTER SUBSCRIPTION %%I SET (slot_name = NONE)', one.subname);
    EXECUTE format('DROP SUBSCRIPTION %%I', one.subname);
  END LOOP;
END $$
;;
-- What is wrong with pg_hba.conf, and whether it lets Kine in by the start fence only: a line for Kine's role or for all
-- roles counts unless one before it has refused Kine's role altogether. The rules list what an @file says as if it stood in
-- the line: the line itself has to be read.
CREATE OR REPLACE FUNCTION kine_failover_admin.look_at_hba(OUT error text, OUT fenced boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  content text := coalesce(pg_read_file(current_setting('hba_file'), 0, 1048576, true), '');
BEGIN
  error := (SELECT r.error FROM pg_hba_file_rules AS r WHERE r.error IS NOT NULL LIMIT 1);
  fenced := position('@' IN content) > 0 AND NOT EXISTS (
    SELECT FROM regexp_split_to_table(content, E'\n') WITH ORDINALITY AS entry (line, number)
    WHERE line !~ '^\s*#' AND line !~ '\sreject\s*(#.*)?$'
      AND line ~ ('^\s*(local|host\w*)\s+(?!replication\s)\S+\s+(?!@)\S*(\m' || %(kine_role)s || '\M(?!_)|\mall\M)')
      AND NOT EXISTS (
        SELECT FROM regexp_split_to_table(content, E'\n') WITH ORDINALITY AS earlier (line, number)
        WHERE earlier.number < entry.number AND earlier.line ~ (CASE WHEN entry.line ~ '^\s*local'
          THEN '^\s*local\s+all\s+' || %(kine_role)s || '\s+reject\s*$'
          ELSE '^\s*host\s+all\s+' || %(kine_role)s || '\s+all\s+reject\s*$' END)));
END $$
;;
REVOKE ALL ON SCHEMA kine_failover_admin FROM PUBLIC
;;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA kine_failover_admin FROM PUBLIC
;;
DO $$ BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA kine_failover_admin TO %%I', %(supervisor)s);
  EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA kine_failover_admin TO %%I', %(supervisor)s);
END $$
