#!/bin/sh
# Builds kine-failover_VERSION_ARCH.deb into dist/: a virtual environment under /opt with every dependency, the unit, a user
# of its own. It fits the Python of the machine that builds it; the same commit gives the same bytes there.
# Usage: packaging/deb/build.sh [folder]. PYTHON (default /usr/bin/python3) is what it will run on, PIP what installs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
out=$(mkdir -p "${1:-$source/dist}" && cd "${1:-$source/dist}" && pwd)
PYTHON=${PYTHON:-/usr/bin/python3}
PIP=${PIP:-$source/.venv/bin/python -m pip}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
root=$work/root
home=/opt/kine-failover

(cd "$source" && $PIP wheel --quiet --no-deps --disable-pip-version-check --wheel-dir "$work/wheel" .)
wheel=$(ls "$work"/wheel/kine_failover-*.whl)
version=$(basename "$wheel" | cut -d- -f2)
arch=$(dpkg --print-architecture)
minor=$("$PYTHON" -c 'import sys; print(sys.version_info.minor)')

mkdir -p "$root/opt"
"$PYTHON" -m venv --without-pip --symlinks "$root$home"
$PIP --python "$root$home/bin/python3" install --quiet --no-compile --disable-pip-version-check \
  --constraint "$here/../constraints.txt" "$wheel"
# Where it was built is nobody's business, and would change from build to build.
find "$root$home" -name direct_url.json -delete
find "$root$home" -name RECORD -exec sed -i -e '/direct_url\.json/d' -e '\#^\.\./\.\./\.\./bin/#d' {} +
find "$root$home/bin" -type f -exec sed -i "s#$root##g" {} +
sed -i -e "s#$root##g" -e '/^command = /d' "$root$home/pyvenv.cfg"
find "$root$home" -name __pycache__ -prune -exec rm -rf {} +
# Compiled here, and not on each machine that is upgraded, whose Postgres and Kine have better use for its processors. It counts
# as long as its source has the date that it has now.
dated() { find "$1" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +; }
dated "$root$home/lib"
PYTHONHASHSEED=0 "$PYTHON" -m compileall -q --invalidation-mode timestamp -s "$root" -p / "$root$home/lib"

mkdir -p "$root/usr/bin" "$root/usr/lib/systemd/system" "$root/usr/lib/systemd/logind.conf.d" "$root/etc/kine-failover" \
  "$root/usr/share/doc/kine-failover" "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d" "$root/DEBIAN"
ln -s $home/bin/kine-failover "$root/usr/bin/kine-failover"
install -m 644 "$here/../systemd/kine-failover.service" "$root/usr/lib/systemd/system/"
install -m 644 "$here/../systemd/logind.conf" "$root/usr/lib/systemd/logind.conf.d/kine-failover.conf"
install -m 644 "$here/../systemd/sysusers.conf" "$root/usr/lib/sysusers.d/kine-failover.conf"
install -m 644 "$here/../systemd/tmpfiles.conf" "$root/usr/lib/tmpfiles.d/kine-failover.conf"
install -m 640 "$here/environment" "$root/etc/kine-failover/environment"
install -m 644 "$source"/docs/*.md "$source/LICENSE" "$root/usr/share/doc/kine-failover/" 2>/dev/null ||
  install -m 644 "$source"/docs/*.md "$root/usr/share/doc/kine-failover/"
for script in postinst prerm postrm; do install -m 755 "$here/$script" "$root/DEBIAN/$script"; done
echo /etc/kine-failover/environment >"$root/DEBIAN/conffiles"
# As dpkg-gencontrol counts: what a folder takes here depends on the file system and on what was in it meanwhile.
size=$(find "$root" -printf '%y %s\n' | awk '{ size += $1 == "f" ? int(($2 + 1023) / 1024) : 1 } END { print size }')
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@MINOR@/$minor/" -e "s/@NEXT@/$((minor + 1))/" \
  -e "s/@SIZE@/$size/" "$here/control" >"$root/DEBIAN/control"
dated "$root"
dpkg-deb --root-owner-group --threads-max=1 -Zzstd --build "$root" "$out/kine-failover_${version}_$arch.deb"
