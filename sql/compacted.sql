-- How far the table has been compacted.
SELECT coalesce(max(prev_revision), 0) AS revision FROM kine WHERE name = 'compact_rev_key'
