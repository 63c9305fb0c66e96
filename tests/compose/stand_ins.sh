#!/bin/sh
# Builds stand-ins for the public images that docker-compose.yml and compose/Dockerfile name, under the same tags, from
# packages of the distribution: for machines that have an engine and no way to a registry of images.
# Needs root, debootstrap and Docker. A tag that exists already is left alone.
set -eu
cd "$(dirname "$0")/../.."
KINE=${KINE:?name the program kine, for instance KINE=$(command -v kine)}
suite=bookworm
base=kine-failover-stand-in:$suite
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

exists() { docker image inspect "$1" >/dev/null 2>&1; }

# build TAG: a Dockerfile on standard input, with $work/files as its context
build() {
  if exists "$1"; then cat >/dev/null; return; fi
  echo "building a stand-in for $1"
  mkdir -p "$work/files"
  DOCKER_BUILDKIT=0 docker build --network host --quiet --tag "$1" --file - "$work/files" <"${2:-/dev/stdin}" >/dev/null
}

if ! exists "$base"; then
  echo "making a $suite base"
  debootstrap --variant=minbase --include=ca-certificates $suite "$work/root" >"$work/log" || { tail "$work/log"; exit 1; }
  cp /etc/ssl/certs/ca-certificates.crt "$work/root/etc/ssl/certs/ca-certificates.crt"
  tar -C "$work/root" -c . | docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$base" >/dev/null
  rm -rf "$work/root"
fi

mkdir -p "$work/files"
cp "$KINE" "$work/files/kine"
cp tests/compose/postgres-entrypoint.sh "$work/files/"
cat >"$work/files/go" <<'SCRIPT'
#!/bin/sh
# Stands in for `go install github.com/k3s-io/kine@...`: the program was built beforehand.
mkdir -p /go/bin && cp /kine /go/bin/kine
SCRIPT

build postgres:16-bookworm <<DOCKERFILE
FROM $base
RUN apt-get update -q && apt-get install -yq --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/*
RUN ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ 2>/dev/null; mkdir -p /docker-entrypoint-initdb.d
COPY postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
ENV PGDATA=/var/lib/postgresql/data
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
DOCKERFILE

build golang:1.26-bookworm <<DOCKERFILE
FROM $base
COPY kine /kine
COPY go /usr/local/bin/go
RUN chmod 755 /kine /usr/local/bin/go
DOCKERFILE

build python:3.13-slim-bookworm <<DOCKERFILE
FROM $base
RUN apt-get update -q && apt-get install -yq --no-install-recommends python3 python3-pip python3-venv && rm -rf /var/lib/apt/lists/* \
    && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED && ln -s python3 /usr/bin/python
DOCKERFILE

build haproxy:2.8-bookworm <<DOCKERFILE
FROM $base
RUN apt-get update -q && apt-get install -yq --no-install-recommends haproxy && rm -rf /var/lib/apt/lists/*
CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
DOCKERFILE
