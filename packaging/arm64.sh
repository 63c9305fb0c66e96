#!/bin/sh
# Tries kine-failover on arm64 where there is no such machine: Debian for arm64 with every program emulated by qemu, in a folder and a
# mount namespace of its own. There: the tests of the core, and the .deb built, installed and asked. Emulated, Postgres and Kine are slower than
# the patience of the tests' clients, so no fault is played. Needs root, debootstrap and qemu-user-static; half an hour on two busy cores.
# Usage: packaging/arm64.sh
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
suite=bookworm
packages=python3,python3-venv,ca-certificates,make,git,systemd
formats=/proc/sys/fs/binfmt_misc
format=kine-failover-aarch64

for program in debootstrap qemu-aarch64-static unshare; do
  command -v $program >/dev/null || { echo "not tried: there is no $program here" >&2; exit 77; }
done
[ "$(id -u)" = 0 ] || { echo "not tried: root is needed for another architecture's folder" >&2; exit 77; }
[ -n "${ARM64_INSIDE:-}" ] || exec env ARM64_INSIDE=1 unshare --mount "$0"

work=$(mktemp -d /var/tmp/kine-failover-arm64-XXXXXX)
root=$work/root
leave() {
  [ ! -e "$formats/$format" ] || echo -1 >"$formats/$format"
  umount -R "$root/proc" "$root/dev" 2>/dev/null || true
  rm -rf --one-file-system "$work"
}
trap leave EXIT
trap 'exit 130' INT TERM

[ -e "$formats/register" ] || mount -t binfmt_misc none "$formats"
# An ELF of 64 bits, little-endian, for machine 183 (aarch64); F: the emulator is opened now, and found from any root.
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":$format:M::$magic:$mask:$(command -v qemu-aarch64-static):F" >"$formats/register"

echo "Debian $suite for arm64 ..."
debootstrap --arch=arm64 --variant=minbase --include=$packages $suite "$root" >"$work/log" 2>&1 || { tail "$work/log"; exit 1; }
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/pip.conf"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"

git clone --quiet "$source" "$root/root/kine-failover"
there() { chroot "$root" /usr/bin/env HOME=/root PIP="${PIP:-/root/kine-failover/.venv/bin/python -m pip}" /bin/sh -euc "cd /root/kine-failover && $1"; }
there 'git config --global --add safe.directory /root/kine-failover; uname -m; make --silent setup'
there '.venv/bin/python -m pytest --quiet -p no:cacheprovider tests/core tests/docs'
there 'packaging/deb/build.sh /root && dpkg --install /root/kine-failover_*_arm64.deb && /usr/bin/kine-failover --version'
