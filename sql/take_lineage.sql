-- This database now is what the leader's is: its history, and complete.
DELETE FROM kine_failover.lineage
;;
INSERT INTO kine_failover.lineage
SELECT * FROM json_populate_recordset(NULL::kine_failover.lineage, %(lineage)s::json)
;;
UPDATE kine_failover.local_state SET data = 'complete'
