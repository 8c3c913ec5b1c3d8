# Everything a fresh machine needs: Python 3.11 or newer with pip and venv, and make.
# Each target sets up `.venv` on its own; the second call finds it ready.

VENV := .venv
OLDEST := .venv-oldest
BIN := $(VENV)/bin
JOBS ?= 2
PYTEST_ARGS ?=

# The newest Python from 3.11 to 3.14 that can make a virtual environment.
# `make PYTHON=/path/to/python ...` chooses another.
PYTHON ?= $(shell for python in \
	  python3.14 python3.13 python3.12 python3.11 python3 \
	  $(HOME)/.pyenv/versions/3.1[1-4]*/bin/python; do \
	  "$$python" -c "import sys, venv, ensurepip; v = sys.version_info; \
	    (3, 11) <= v[:2] <= (3, 14) and print(v[1] * 1000 + v[2], sys.executable)" \
	    2>/dev/null; \
	done | sort -rn | head -n 1 | cut -d ' ' -f 2-)
PYTHON_OLDEST ?= $(shell for python in \
	  python3.11 python3 $(HOME)/.pyenv/versions/3.11*/bin/python; do \
	  "$$python" -c "import sys, venv, ensurepip; \
	    sys.version_info[:2] == (3, 11) and print(sys.executable)" 2>/dev/null; \
	done | head -n 1)

# What the oldest supported stack is asked: the engine, without the optional extras.
OLDEST_JAX := 0.10.1
OLDEST_TESTS = tests/test_import.py tests/test_util.py tests/test_dataclasses.py \
	tests/test_units.py tests/test_interpolate.py tests/space/test_derivatives.py \
	tests/partition/test_lanes.py tests/partition/test_neighbor_sum.py \
	tests/energy/test_pair_functions.py

.PHONY: help demo test test-slow test-all test-oldest run-oldest lint format bench peers clean
.DELETE_ON_ERROR:

help:
	@echo "make demo         set up and run examples/quickstart.py"
	@echo "make test         the tests without those marked slow"
	@echo "make test-slow    the tests marked slow"
	@echo "make test-all     all tests"
	@echo "make test-oldest  a short suite on Python 3.11 and JAX $(OLDEST_JAX)"
	@echo "make lint         ruff and pyright"
	@echo "make format       ruff, mending what it can"
	@echo "make bench        the benchmarks; make peers before compares other engines"

$(BIN)/python:
	@test -n "$(PYTHON)" || { \
	  echo "No Python from 3.11 to 3.14 with venv found." \
	       "Install one or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of extras, made again when pyproject.toml changes.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	@touch $@

demo: $(VENV)/.installed-all
	$(BIN)/python examples/quickstart.py

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(JOBS) -m slow $(PYTEST_ARGS)

test-all: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(JOBS) $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One question after another, so that no two disturb each other's timings.
bench: $(VENV)/.installed-all
	@set -e; for file in benchmarks/bench_*.py; do \
	  echo "$$file"; $(BIN)/python -m "benchmarks.$$(basename "$$file" .py)"; \
	done
	$(BIN)/python -m benchmarks.report

# Other engines for `make bench` to compare with, each in an environment of its own.
peers: $(VENV)/.installed-all
	$(BIN)/python -m benchmarks.peers.setup

$(OLDEST)/.installed: pyproject.toml
	$(PYTHON_OLDEST) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -e . \
	  jax==$(OLDEST_JAX) jaxlib==$(OLDEST_JAX) pytest pytest-xdist scipy
	@touch $@

test-oldest:
	@if [ -z "$(PYTHON_OLDEST)" ]; then \
	  echo "SKIPPED test-oldest: no Python 3.11 with venv on this machine"; \
	else \
	  $(MAKE) --no-print-directory run-oldest; \
	fi

run-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest -n $(JOBS) -m "not slow and not extra" \
	  $(PYTEST_ARGS) $(wildcard $(OLDEST_TESTS))

clean:
	rm -rf $(VENV) $(OLDEST) .venv-peers .cache .pytest_cache .ruff_cache build dist
