# Everything sets itself up: a fresh machine needs git, make and Python 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
KEEP ?=
RUNS ?= 10
ONLY ?=

.PHONY: help setup programs demo test test-core lint bench proto docs clean

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
	@KEEP=$(KEEP) $(BIN)/python -m demo

test: programs ## all tests, those on real Postgres and Kine included
	@$(BIN)/python -m pytest -n 2 --dist worksteal tests

test-core: $(READY) ## the tests that need no Postgres
	@$(BIN)/python -m pytest -n 2 tests/core tests/docs tests/simulation

lint: $(READY) ## ruff, mypy, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: programs ## the figures: RUNS=10, ONLY=F0,F1
	@RUNS=$(RUNS) ONLY=$(ONLY) $(BIN)/python -m bench

proto: $(READY) ## generate failover/etcd/etcd_pb2.py
	@$(BIN)/python -m grpc_tools.protoc -Ifailover/etcd --python_out=failover/etcd --pyi_out=failover/etcd etcd.proto

docs: $(READY) ## generate docs/protocol.md and the role diagram from the rule table
	@$(BIN)/python docs/generate_protocol.py

clean: ## remove what was generated
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
