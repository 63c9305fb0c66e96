-- Create what the supervisor and Kine need where it is missing, after setup_roles and setup_functions; no data. Kine's
-- schema is that of Kine 0.17.5, pkg/drivers/pgsql/pgsql.go: it must exist before, as two Kines that start at once on an
-- empty database race.
SELECT set_config('client_min_messages', 'warning', true)
;;
CREATE TABLE IF NOT EXISTS kine (
  id bigserial PRIMARY KEY,
  name text COLLATE "C",
  created integer,
  deleted integer,
  create_revision bigint,
  prev_revision bigint,
  lease integer,
  value bytea,
  old_value bytea
)
;;
CREATE INDEX IF NOT EXISTS kine_name_index ON kine (name)
;;
CREATE INDEX IF NOT EXISTS kine_name_id_index ON kine (name, id)
;;
CREATE INDEX IF NOT EXISTS kine_id_deleted_index ON kine (id, deleted)
;;
CREATE INDEX IF NOT EXISTS kine_prev_revision_index ON kine (prev_revision)
;;
CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON kine (name, prev_revision)
;;
CREATE INDEX IF NOT EXISTS kine_list_query_index ON kine (name, id DESC, deleted)
;;
DO $$ BEGIN
  EXECUTE format('ALTER TABLE kine OWNER TO %%I', %(kine_role)s);
END $$
;;
CREATE SCHEMA IF NOT EXISTS kine_failover
;;
CREATE TABLE IF NOT EXISTS kine_failover.lineage (
  id text PRIMARY KEY,
  ordinal integer NOT NULL,
  term bigint NOT NULL,
  node smallint NOT NULL,
  kind text NOT NULL,
  reason text NOT NULL,
  started_at_us bigint NOT NULL,
  first_revision bigint NOT NULL,
  parent_revision bigint NOT NULL,
  provisional boolean NOT NULL,
  absorbs text
)
;;
CREATE TABLE IF NOT EXISTS kine_failover.local_state (
  single boolean PRIMARY KEY DEFAULT true CHECK (single),
  data text NOT NULL DEFAULT 'empty',
  fence_term bigint NOT NULL DEFAULT -1
)
;;
INSERT INTO kine_failover.local_state DEFAULT VALUES ON CONFLICT DO NOTHING
;;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'kine_failover') THEN
    CREATE PUBLICATION kine_failover FOR TABLE kine, kine_failover.lineage;
  END IF;
END $$
