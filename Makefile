# Needs: GNU make, a POSIX shell and Python 3.11 or 3.12 with venv. Everything else is fetched
# into .venv by pip, at the versions of constraints.txt.
#
#   make demo     two photographs through the whole product, on this machine
#   make up       the same stack, left running; Ctrl-C stops it
#   make test     the tests, with real parts
#   make check    format, lint, types, import contracts, docs against settings
#   make clean    removes the environment, caches and the demo's data
#
# PYTHON=/path/to/python3.12 chooses the interpreter; PYTEST_ARGS='-k name' is passed to pytest.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo up test check format docs picture pins install clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?=
# Each test process computes on one thread, so that processes do not fight for the cores.
TEST_ENVIRONMENT := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

help:
	@sed -n 's/^#   make/  make/p' Makefile

demo: $(STAMP)
	@$(BIN)/semblance demo

up: $(STAMP)
	@$(BIN)/semblance up

# Files in their order, which begins with the slow ones (tests/acceptance), each in one process. Four
# processes even on two cores: the tests wait for other programs and the disk most of their time.
test: $(STAMP)
	@$(TEST_ENVIRONMENT) $(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.document_settings --check
	$(BIN)/python -m scripts.chart_settings --check

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Renews what is generated in docs/ from the code.
docs: $(STAMP)
	$(BIN)/python -m scripts.document_settings
	$(BIN)/python -m scripts.chart_settings

# Makes the README's picture anew.
picture: $(STAMP)
	$(BIN)/python -m scripts.picture

install: $(STAMP)

# Made again whenever the pins or the project's requirements change; pip then only fetches what
# differs. An environment of another Python, or one left half made, is replaced.
$(STAMP): pyproject.toml constraints.txt scripts/find-python scripts/install
	@scripts/install "$(VENV)" "$$(scripts/find-python)"
	@touch $@

# Writes down the versions .venv holds, after an upgrade that passed the tests.
pins:
	@$(BIN)/python scripts/pins.py

clean:
	rm -rf $(VENV) var .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
