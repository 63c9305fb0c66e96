-- The whole lineage, oldest row first.
SELECT coalesce(json_agg(to_json(l) ORDER BY l.ordinal), '[]'::json) AS lineage FROM kine_failover.lineage AS l
