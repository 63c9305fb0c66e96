#!/bin/sh
# Certificates and passwords of the pair, made once, in the volume that both nodes read.
set -eu
umask 077
for role in postgres kine; do
  if [ ! -s "/certs/$role-password" ]; then
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"/certs/$role-password"
  fi
done
kine-failover certs /certs --cluster compose
