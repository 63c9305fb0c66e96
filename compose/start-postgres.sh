#!/bin/sh
# Postgres starts fenced: whoever was let in before is not let in again until the supervisor has decided.
set -eu
if [ -e "$PGDATA/kine_failover_open" ]; then
  echo kine_failover_closed > "$PGDATA/kine_failover_open"
fi
exec docker-entrypoint.sh postgres \
  -c wal_level=logical -c track_commit_timestamp=on -c restart_after_crash=off -c max_slot_wal_keep_size=1GB -c max_connections=500 \
  -c wal_receiver_status_interval=1s -c wal_sender_timeout=5s -c wal_receiver_timeout=5s -c wal_retrieve_retry_interval=200ms \
  -c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3 -c tcp_user_timeout=5s "$@"
