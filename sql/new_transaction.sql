-- The number of a new transaction: above that of every one that is under way.
SELECT pg_current_xact_id()::text::bigint AS number
