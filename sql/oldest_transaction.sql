-- Every transaction with a lower number is over, and what it wrote is seen.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS number
