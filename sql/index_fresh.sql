-- The indexes of the complete copy, under the names that Kine knows; they live in this schema until the swap. Without
-- statistics Kine's polls would read the whole table until an autovacuum comes by.
ALTER TABLE kine_failover.fresh ADD CONSTRAINT kine_pkey PRIMARY KEY (id)
;;
CREATE INDEX kine_name_index ON kine_failover.fresh (name)
;;
CREATE INDEX kine_name_id_index ON kine_failover.fresh (name, id)
;;
CREATE INDEX kine_id_deleted_index ON kine_failover.fresh (id, deleted)
;;
CREATE INDEX kine_prev_revision_index ON kine_failover.fresh (prev_revision)
;;
CREATE UNIQUE INDEX kine_name_prev_revision_uindex ON kine_failover.fresh (name, prev_revision)
;;
CREATE INDEX kine_list_query_index ON kine_failover.fresh (name, id DESC, deleted)
;;
ANALYZE kine_failover.fresh
