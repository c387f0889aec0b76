# Two commands: `make demo` and `make test`. Needs Python 3.11 or newer and a package index, nothing else.
#
#   PYTHON=python3.12 make demo      another interpreter
#   PALATE_DATA=/some/folder make …  real people's choices; ../shared/data is taken when it exists

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO ?= palate-demo
WORKERS ?= 2

ifneq ($(wildcard ../shared/data),)
export PALATE_DATA ?= $(abspath ../shared/data)
endif
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export HF_HUB_OFFLINE ?= 1

# One thread a worker: two workers that each start a thread per core only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

.PHONY: help install demo test test-slow lint format docs clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

install: $(INSTALLED) ## .venv with Palate, its tests and the bundled models

# torch comes first and by the constraints file: without it pip takes torch's newest build with gigabytes of CUDA.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Palate needs Python 3.11 or newer and $(PYTHON) is $$($(PYTHON) --version 2>&1); say PYTHON=python3.11 make …" >&2; \
	  exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	$(BIN)/palate models get
	@touch $@

demo: $(INSTALLED) ## audit, fit, benchmark and report on shipped data, in under two minutes
	$(BIN)/palate demo -o $(DEMO)

test: $(INSTALLED) ## the tests of every change
	$(PYTEST) -m "not slow"

test-slow: $(INSTALLED) ## the long ones
	$(PYTEST) -m slow

lint: $(INSTALLED) ## style, unused names, import order
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED) ## mend what lint finds
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## the generated pages of docs/, and the site in build/site
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	$(BIN)/python -m pytest -q tests/docs

bench-%: $(INSTALLED) ## bench-NAME runs benchmarks/NAME.py and rewrites its committed result
	$(BIN)/python benchmarks/$*.py

clean: ## the demo and all caches of tools, not .venv and not the features
	rm -rf $(DEMO) .pytest_cache .ruff_cache .hypothesis build dist
