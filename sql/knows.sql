-- Whether this database's history holds a row.
SELECT EXISTS (SELECT FROM kine_failover.lineage WHERE id = %(id)s) AS known
