-- An empty table beside the one in use; what an earlier, unfinished copy left is dropped.
DROP TABLE IF EXISTS kine_failover.fresh
;;
CREATE TABLE kine_failover.fresh (LIKE kine INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)
