-- Stream on from the slot whose snapshot was copied. Bound by the server: no log quotes the password.
SELECT kine_failover_admin.subscribe(%(subscription)s, %(conninfo)s)
