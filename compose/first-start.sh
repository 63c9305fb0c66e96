#!/bin/sh
# Runs once, when the database is made: a pg_hba.conf that lets Kine in only by the file that the supervisor writes, which names
# nobody at each start (R11), and a superuser from this machine alone. Without TLS: the networks lead nowhere else.
set -eu
cat > "$PGDATA/pg_hba.conf" <<HBA
local all  postgres             trust
host  all  postgres             127.0.0.1/32  scram-sha-256
host  kine kine_failover        all           scram-sha-256
host  kine @kine_failover_open  all           scram-sha-256
HBA
echo kine_failover_closed > "$PGDATA/kine_failover_open"
