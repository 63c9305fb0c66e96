-- The first row of a new cluster's lineage: from here on this database holds the cluster's data.
INSERT INTO kine_failover.lineage
  (id, ordinal, term, node, kind, reason, started_at_us, first_revision, parent_revision, provisional, absorbs)
SELECT %(id)s, 1, %(term)s, %(node)s, %(kind)s, %(reason)s, %(started_at_us)s,
  coalesce((SELECT max(k.id) FROM kine AS k), 0) + 1, coalesce((SELECT max(k.id) FROM kine AS k), 0), false, NULL
;;
UPDATE kine_failover.local_state SET data = 'complete'
