-- A lineage row within a leadership: from here on alone, or from here on in sync.
INSERT INTO kine_failover.lineage
  (id, ordinal, term, node, kind, reason, started_at_us, first_revision, parent_revision, provisional, absorbs)
SELECT %(id)s, (SELECT max(l.ordinal) + 1 FROM kine_failover.lineage AS l), %(term)s, %(node)s, %(kind)s, %(reason)s,
  %(started_at_us)s, coalesce(max(k.id), 0) + 1, coalesce(max(k.id), 0), %(provisional)s, NULL
FROM kine AS k
RETURNING first_revision, parent_revision
