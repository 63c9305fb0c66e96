-- Put the complete copy in the place of the table in use, which is dropped only here. Short: nothing is built here.
LOCK TABLE kine IN ACCESS EXCLUSIVE MODE
;;
ALTER PUBLICATION kine_failover DROP TABLE kine
;;
ALTER SEQUENCE kine_id_seq OWNED BY NONE
;;
DROP TABLE kine
;;
ALTER TABLE kine_failover.fresh SET SCHEMA public
;;
ALTER TABLE fresh RENAME TO kine
;;
DO $$ BEGIN
  EXECUTE format('ALTER TABLE kine OWNER TO %%I', %(kine_role)s);
  EXECUTE format('ALTER SEQUENCE kine_id_seq OWNER TO %%I', %(kine_role)s);
END $$
;;
ALTER SEQUENCE kine_id_seq OWNED BY kine.id
;;
ALTER PUBLICATION kine_failover ADD TABLE kine
