# Two commands matter: `make demo` sets everything up and plans the sample bakeries; `make test` runs every check.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The definitions are checked on an instance of their own.
TEST_HOME := $(CURDIR)/.daybreak-test

# The libraries that the forecasts are compared with need an older pandas than Daybreak.
RIVALS := .venv-rivals

.PHONY: demo test setup up bench rivals clean lock format
.DEFAULT_GOAL := help

help:
	@echo "make demo   set up, plan the sample bakeries' day, print the plan"
	@echo "make test   set up, run formatter, linter, types, import contracts, definitions and all tests"
	@echo "make setup  install only; afterwards $(BIN)/daybreak works"
	@echo "make up     the web UI, running, until Ctrl-C"
	@echo "make bench  the benchmarks; FRENCH_BAKERY=folder adds the replay of that data set"
	@echo "make rivals install the libraries that benchmarks.accuracy compares with, in an environment of their own"
	@echo "make clean  remove the virtual environment and the local instance"

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Daybreak needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Remedy: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(READY)

demo: setup
	$(BIN)/daybreak demo

up: setup
	$(BIN)/daybreak up

test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	DAYBREAK_HOME=$(TEST_HOME) $(BIN)/daybreak env dg check defs
	$(BIN)/python -m pytest

bench: setup
	$(BIN)/python -m benchmarks.store
	$(BIN)/python -m benchmarks.imports
	$(BIN)/python -m benchmarks.accuracy $(if $(FRENCH_BAKERY),--data $(FRENCH_BAKERY))
	$(BIN)/python -m benchmarks.planning
	$(if $(FRENCH_BAKERY),$(BIN)/python -m benchmarks.french_bakery --data $(FRENCH_BAKERY))
	$(if $(FRENCH_BAKERY),$(BIN)/python -m benchmarks.plan_value --data $(FRENCH_BAKERY))

rivals: $(RIVALS)/.ready

$(RIVALS)/.ready: benchmarks/requirements-rivals.txt
	$(PYTHON) -m venv $(RIVALS)
	$(RIVALS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/requirements-rivals.txt
	@touch $@

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Exact versions and hashes for Linux and macOS on every Python from 3.11; no index or download address is written.
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --no-annotate --no-header
lock:
	$(COMPILE) pyproject.toml --extra dev --output-file requirements.lock
	$(COMPILE) benchmarks/requirements-rivals.in --output-file benchmarks/requirements-rivals.txt

clean:
	@test ! -x $(BIN)/daybreak || $(BIN)/daybreak down --quiet --delete-data
	@test ! -x $(BIN)/daybreak || DAYBREAK_HOME=$(TEST_HOME) $(BIN)/daybreak down --quiet --delete-data
	rm -rf $(VENV) $(RIVALS) .daybreak $(TEST_HOME) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
