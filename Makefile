# Everything sets itself up: a fresh machine needs git, make and Python 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
KEEP ?=
PICTURE ?=
RUNS_GIVEN := $(RUNS)
RUNS ?= 10
ONLY ?=
SEEDS ?= 1000
MINUTES ?= 10
FIRST ?= 0
SEED ?=
SCENARIO ?=
SHORT ?=

.PHONY: help setup programs chaos soak demo test test-core test-pythons simulate mutate lint bench proto docs site clean deb pins sbom audit

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /: /'

setup: $(READY) ## the virtual environment

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; name one with PYTHON=") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing what pyproject.toml names into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

programs: $(READY) ## Postgres and Kine, found or built
	@$(BIN)/python -m lab.binaries

demo: programs ## two nodes on loopback: kill, switch over, split, heal (KEEP=1 leaves them running)
	@KEEP=$(KEEP) PICTURE=$(PICTURE) $(BIN)/python -m demo

test: programs ## all tests, those on real Postgres and Kine included
	@$(BIN)/python -m pytest -n 2 --dist worksteal tests --ignore tests/compose --ignore tests/machines --ignore tests/kubernetes

test-core: $(READY) ## the tests that need no Postgres
	@$(BIN)/python -m pytest -n 2 tests/core tests/docs tests/simulation

test-pythons: $(READY) ## the tests that need no Postgres, on each version of Python that is found here; VERSIONS="3.12 3.14"
	@$(BIN)/python -m lab.pythons $(VERSIONS)

simulate: $(READY) ## random faults in virtual time: SEEDS=1000 MINUTES=10 FIRST=0, or QUIET=60 minutes without any
	@$(BIN)/python -m tests.simulation --first $(FIRST) --seeds $(SEEDS) --minutes $(MINUTES) $(if $(QUIET),--quiet $(QUIET))

mutate: $(READY) ## small mistakes in the core, and which of them no test notices; fails below 95 %: MINUTES=60 ONLY=rules.py
	@nice $(BIN)/python -m tests.mutation --at-least 95 --minutes $(if $(filter file,$(origin MINUTES)),60,$(MINUTES)) $(if $(ONLY),--only '$(ONLY)')

chaos: programs ## faults on real parts in namespaces (root): MINUTES=6, SEED=1 (or random), SCENARIO=cut-leader,... or all
	@$(BIN)/python -m chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(SCENARIO),--scenario $(SCENARIO))

soak: programs ## stress without a fault, false failovers counted (root): MINUTES=60
	@$(BIN)/python -m chaos --soak --minutes $(MINUTES)

lint: $(READY) ## ruff, mypy, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: programs ## the figures: RUNS=10, ONLY=F0,F1
	@RUNS=$(RUNS) ONLY=$(ONLY) $(BIN)/python -m bench

proto: $(READY) ## generate failover/etcd/etcd_pb2.py
	@$(BIN)/python -m grpc_tools.protoc -Ifailover/etcd --python_out=failover/etcd --pyi_out=failover/etcd etcd.proto

docs: $(READY) ## generate the pages of docs/ that come from the code: protocol, configuration, command line
	@$(BIN)/python docs/generate_protocol.py
	@$(BIN)/python docs/generate_reference.py

site: $(READY) ## the documentation as a site in build/site; a broken link is an error
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

clean: ## remove what was generated
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build

deb: $(READY) ## dist/kine-failover_*.deb: unit, user, a virtual environment under /opt (same commit, same bytes)
	@packaging/deb/build.sh

pins: $(READY) ## packaging/constraints.txt anew: the newest versions that the package may hold
	@rm -rf build/pins && $(PYTHON) -m venv build/pins && build/pins/bin/pip install --quiet --disable-pip-version-check . && \
		{ sed -n 1p packaging/constraints.txt && build/pins/bin/pip freeze --exclude kine-failover; } >build/pins/constraints.txt && \
		mv build/pins/constraints.txt packaging/constraints.txt && rm -rf build/pins

sbom: $(READY) ## dist/sbom.json: what a release is made of, CycloneDX
	@mkdir -p dist && $(PYTHON) -m venv dist/sbom-env && dist/sbom-env/bin/pip install --quiet --constraint packaging/constraints.txt . && \
		$(BIN)/cyclonedx-py environment dist/sbom-env/bin/python --output-format JSON --output-file dist/sbom.json && \
		rm -rf dist/sbom-env && echo dist/sbom.json

audit: $(READY) ## known vulnerabilities of what the package holds; says so where no database of them can be reached
	@$(BIN)/python -m lab.audit

.PHONY: test-compose test-machines test-arm64 chaos-compose compose-v2

test-compose: programs ## the pair of docker-compose.yml through every fault, on an engine of its own where none runs
	@$(BIN)/python -m pytest -s tests/compose

test-machines: programs ## docs/install.md typed on two Debian machines (systemd in containers; root), and what happens to them; SHORT=1: as CI
	@$(BIN)/python -m pytest -s tests/machines $(if $(SHORT),-m short)

test-arm64: ## the core's tests and the .deb on emulated arm64 (root, debootstrap, qemu-user-static)
	@packaging/arm64.sh

chaos-compose: $(READY) ## a fault on the pair that `docker compose up` started: SCENARIO=kill, stop, pause, partition, ..., all
	@$(BIN)/python -m tests.compose --scenario $(or $(SCENARIO),all)

compose-v2: $(READY) ## docker compose version 2 from its Go module, where there is no package of it
	@$(BIN)/python -m tests.compose.command

.PHONY: test-kubernetes

test-kubernetes: programs ## real API servers and their clients through the faults (Go builds them once): RUNS=5 measures, SCENARIO=F1,...
	@$(BIN)/python -m tests.kubernetes.programs
	@$(if $(RUNS_GIVEN),$(BIN)/python -m tests.kubernetes --runs $(RUNS) $(if $(SCENARIO),--scenario $(SCENARIO)),$(BIN)/python -m pytest tests/kubernetes)
