#!/bin/sh
# Runs once, when the database is made: roles, and a pg_hba.conf that lets Kine in only by the file that the supervisor
# writes. The file names nobody at each start (R11).
set -eu
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname kine -c "CREATE ROLE kine NOLOGIN PASSWORD '$KINE_PASSWORD'"
cat > "$PGDATA/pg_hba.conf" <<HBA
local all kine_failover trust
host  all kine_failover all scram-sha-256
host  all @kine_failover_open all scram-sha-256
HBA
echo kine_failover_closed > "$PGDATA/kine_failover_open"
