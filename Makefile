# Two commands set everything up: `make up` starts a cluster, `make test` runs the tests. Both install what they need
# into .venv. UPFLAGS and TESTFLAGS are handed on: make up UPFLAGS="--nodes 3".
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UPFLAGS ?=
TESTFLAGS ?=

.PHONY: up down test unit integration e2e check bench protos lock clean install
.DEFAULT_GOAL := help

help:
	@echo "make up | down | test | unit | integration | e2e | check | bench | protos | lock | clean"

$(BIN)/tiller: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Tillerman needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Set PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable .
	@# Compiled once, so that every `tiller` and every service starts fast, also where Python may not write bytecode.
	$(BIN)/python -m compileall -q tillerman services
	@touch $@

$(VENV)/.dev: $(BIN)/tiller pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev]'
	@touch $@

install: $(BIN)/tiller

up: $(BIN)/tiller
	@$(BIN)/tiller up --process-image-path=$(CURDIR)/examples $(UPFLAGS)

down: $(BIN)/tiller
	@$(BIN)/tiller down

test: $(VENV)/.dev
	@bash tests/prepare.sh
	$(BIN)/python -m pytest tests/unit $(TESTFLAGS)
	$(BIN)/python -m pytest tests/integration $(TESTFLAGS)
	$(BIN)/python -m pytest tests/e2e $(TESTFLAGS)

unit: $(VENV)/.dev
	$(BIN)/python -m pytest tests/unit $(TESTFLAGS)

integration: $(VENV)/.dev
	@bash tests/prepare.sh
	$(BIN)/python -m pytest tests/integration $(TESTFLAGS)

e2e: $(VENV)/.dev
	@bash tests/prepare.sh
	$(BIN)/python -m pytest tests/e2e $(TESTFLAGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check

bench: $(VENV)/.dev
	$(BIN)/python -m bench

protos: $(VENV)/.dev
	$(BIN)/python protos/generate.py

# The exact versions that are tested; pyproject.toml has the ranges.
lock: $(VENV)/.dev
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^-e' > requirements.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
