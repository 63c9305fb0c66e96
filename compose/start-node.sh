#!/bin/sh
# Begins the pair on the first start, renders the front's configuration, and becomes the supervisor.
set -eu
if [ ! -e /var/lib/kine-failover/state.json ]; then
  if [ "$KINE_FAILOVER__NODE__NUMBER" = 0 ]; then kine-failover init; else kine-failover join; fi
fi
# The front listens inside of a container; only 127.0.0.1 of the host leads there. It has no TLS: for trying only.
kine-failover front --listen 127.0.0.1:2379 | sed 's/bind 127.0.0.1:/bind :/' >/run/kine-failover/haproxy.cfg
exec kine-failover run
