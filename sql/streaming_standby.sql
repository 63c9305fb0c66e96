-- Who streams from this server; no row when nobody does.
SELECT application_name AS name FROM pg_stat_replication
WHERE application_name LIKE 'kf\_%%' AND state = 'streaming' ORDER BY backend_start DESC LIMIT 1
