-- For the next seconds revisions are committed in their order, as watches begin now: a watch that begins while a lower revision than
-- the newest is not committed yet never tells of it (Kine). Writes under way are waited for, then each waits for the one before.
SELECT set_config('client_min_messages', 'warning', true), set_config('lock_timeout', %(lock_ms)s::text, true)
;;
LOCK TABLE kine IN SHARE ROW EXCLUSIVE MODE
;;
-- Not in the schema's preparation: a rejoin puts another table in the place of this one.
DO $$ BEGIN
  IF to_regprocedure('kine_failover.in_order()') IS NULL THEN
    CREATE TABLE IF NOT EXISTS kine_failover.in_order_until (at timestamptz NOT NULL);
    INSERT INTO kine_failover.in_order_until VALUES ('-infinity');
    -- Before the statement: its revision is drawn after. No insert may fail by this, or wait for long: the one before may be
    -- of a machine that has lost its power (and a Kine whose inserts fail may acknowledge them).
    CREATE FUNCTION kine_failover.in_order() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $in_order$
    BEGIN
      IF EXISTS (SELECT FROM kine_failover.in_order_until WHERE at > clock_timestamp()) THEN
        BEGIN
          PERFORM pg_advisory_xact_lock(1802661471);
        EXCEPTION WHEN lock_not_available THEN NULL;
        END;
      END IF;
      RETURN NULL;
    END $in_order$;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'kine'::regclass AND tgname = 'kine_failover_in_order') THEN
    CREATE TRIGGER kine_failover_in_order BEFORE INSERT ON kine
    FOR EACH STATEMENT EXECUTE FUNCTION kine_failover.in_order();
  END IF;
END $$
;;
UPDATE kine_failover.in_order_until SET at = greatest(at, clock_timestamp() + %(seconds)s * interval '1 second')
