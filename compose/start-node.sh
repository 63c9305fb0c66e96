#!/bin/sh
# Begins the pair on the first start, and becomes the supervisor.
set -eu
if [ ! -e /var/lib/kine-failover/state.json ]; then
  if [ "$KINE_FAILOVER__NODE__NUMBER" = 0 ]; then kine-failover init; else kine-failover join; fi
fi
exec kine-failover run
