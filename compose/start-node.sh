#!/bin/sh
# Begins the pair on the first start, renders the front's configuration, and runs the supervisor.
set -eu
number=$(sed -n 's/^number = //p' "$KINE_FAILOVER_CONFIG")
if [ ! -e /var/lib/kine-failover/state.json ]; then
  if [ "$number" = 0 ]; then kine-failover init; else kine-failover join; fi
fi
# The front listens on the network of this machine's clients alone; only 127.0.0.1 of the host leads there. It has no TLS:
# for trying only.
cd /run/kine-failover
kine-failover front --listen 127.0.0.1:2379 | sed "s/bind 127.0.0.1:/bind etcd-$number:/" >haproxy.cfg.new
mv haproxy.cfg.new haproxy.cfg # the front may be starting

# Kine ends with this container: to stop it is to shut the machine down.
exec kine-failover run --ends-with-machine
