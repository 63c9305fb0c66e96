#!/bin/sh
# Makes the image kine-failover-stand-in:bookworm, a minimal Debian by debootstrap: for machines that have an engine and no way
# to a registry of images. Needs root, debootstrap and Docker. An image that exists is left alone.
set -eu
suite=bookworm
base=kine-failover-stand-in:$suite
if docker image inspect "$base" >/dev/null 2>&1; then exit; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
echo "making a $suite base"
# The lists of packages stay, so that no image has to fetch them.
debootstrap --variant=minbase --include=ca-certificates $suite "$work/root" >"$work/log" || { tail "$work/log"; exit 1; }
cp /etc/ssl/certs/ca-certificates.crt "$work/root/etc/ssl/certs/ca-certificates.crt"
rm -f "$work"/root/var/cache/apt/archives/*.deb
tar -C "$work/root" -c . |
  docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive' - "$base" >/dev/null
rm -rf "$work/root"
