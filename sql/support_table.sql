-- The kine table in numbers: no key's name beyond its kind, and no value.
SELECT
  (SELECT json_build_object('rows', count(*), 'first', min(id), 'newest', max(id),
      'tombstones', count(*) FILTER (WHERE deleted <> 0), 'with_lease', count(*) FILTER (WHERE lease <> 0)) FROM kine) AS rows,
  (SELECT prev_revision FROM kine WHERE name = 'compact_rev_key') AS compacted_to,
  pg_total_relation_size('kine') AS bytes,
  (SELECT json_agg(i) FROM (
      SELECT indexrelname AS name, pg_relation_size(indexrelid) AS bytes FROM pg_stat_user_indexes
      WHERE relname = 'kine') AS i) AS indexes,
  (SELECT json_build_object('dead_rows', n_dead_tup, 'last_autovacuum', last_autovacuum, 'last_vacuum', last_vacuum)
    FROM pg_stat_user_tables WHERE schemaname = 'public' AND relname = 'kine') AS vacuum,
  (SELECT coalesce(json_agg(k), '[]') FROM (
      SELECT CASE WHEN name LIKE '/registry/%%' THEN '/registry/' || split_part(name, '/', 3)
        WHEN name LIKE '/kine-failover/%%' THEN '/kine-failover' ELSE 'other' END AS kind, count(*) AS rows
      FROM kine GROUP BY 1 ORDER BY 2 DESC LIMIT 50) AS k) AS kinds
