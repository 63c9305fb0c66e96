#!/bin/sh
# Builds stand-ins for the public images that docker-compose.yml and compose/Dockerfile name, under the same tags, from
# packages of the distribution: for machines that have an engine and no way to a registry of images. They carry the
# distribution's versions, whatever the tag says. Needs root, debootstrap and Docker. A tag that exists is left alone.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
KINE=${KINE:?name the program kine, for instance KINE=$(command -v kine)}
base=kine-failover-stand-in:bookworm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
export DOCKER_BUILDKIT=0 # it would ask a registry for images that are here

exists() { docker image inspect "$1" >/dev/null 2>&1; }

# build TAG PACKAGE...: the rest of a Dockerfile on standard input, with $work/files as its context
build() {
  tag=$1
  shift
  if exists "$tag"; then return; fi
  echo "building a stand-in for $tag"
  {
    echo "FROM $base"
    [ $# = 0 ] || echo "RUN apt-get install -qy --no-install-recommends $* && apt-get clean"
    cat
  } | docker build --network host --quiet --tag "$tag" --file - "$work/files" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
}

"$here/stand_in_base.sh"
mkdir -p "$work/files"
cp "$KINE" "$here"/stand_ins/* "$work/files/"
mv "$work/files/$(basename "$KINE")" "$work/files/kine.program"

build postgres:16-bookworm postgresql <<'DOCKERFILE'
RUN ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ 2>/dev/null; mkdir -p /docker-entrypoint-initdb.d
COPY postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
ENV PGDATA=/var/lib/postgresql/data
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
DOCKERFILE

build golang:1.26-bookworm <<'DOCKERFILE'
COPY kine.program /kine
COPY go.sh /usr/local/bin/go
DOCKERFILE

build python:3.13-slim-bookworm python3 python3-pip python3-venv <<'DOCKERFILE'
RUN rm -f /usr/lib/python3*/EXTERNALLY-MANAGED && ln -s python3 /usr/bin/python
DOCKERFILE

build haproxy:2.8-bookworm haproxy <<'DOCKERFILE'
CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
DOCKERFILE

build eclipse-mosquitto:2.0.20 mosquitto mosquitto-clients <<'DOCKERFILE'
USER mosquitto
CMD ["/usr/sbin/mosquitto", "-c", "/mosquitto/config/mosquitto.conf"]
DOCKERFILE

build prom/prometheus:v2.55.1 prometheus wget <<'DOCKERFILE'
RUN install -d -o nobody /prometheus
USER nobody
ENTRYPOINT ["/usr/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
DOCKERFILE

build grafana/grafana:11.5.2 python3-yaml wget <<'DOCKERFILE'
COPY grafana_stand_in.py /usr/local/bin/grafana_stand_in.py
USER nobody
ENTRYPOINT ["python3", "-u", "/usr/local/bin/grafana_stand_in.py"]
DOCKERFILE
