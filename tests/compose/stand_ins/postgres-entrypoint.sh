#!/bin/sh
# The part of the official image's entry point that compose/ leans on: the cluster is made at the first start, with
# POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB; the scripts of /docker-entrypoint-initdb.d run once; then Postgres
# runs as its own user.
set -eu
: "${POSTGRES_USER:=postgres}"
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chown -R postgres "$PGDATA" /var/run/postgresql
  exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  echo "$POSTGRES_PASSWORD" >/tmp/password
  initdb -D "$PGDATA" -U "$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 >/dev/null
  rm /tmp/password
  pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start >/dev/null
  psql -U "$POSTGRES_USER" -d postgres -c "CREATE DATABASE $POSTGRES_DB" >/dev/null
  for script in /docker-entrypoint-initdb.d/*; do
    [ -e "$script" ] && . "$script"
  done
  pg_ctl -D "$PGDATA" -m fast -w stop >/dev/null
  echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
fi
exec "$@"
