# make quickstart   environment, embedded model, whole pipeline, report
# make test         the tests
# make lint         formatting, lint, types, direction of imports
# make bench        speed against the model's own forward and backward passes

PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test lint bench install

quickstart: .venv/installed
	$(BIN)/circuits run quickstart

test: .venv/installed
	$(BIN)/python -m pytest -n auto

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed
	$(BIN)/python scripts/benchmarks/attribution.py
	$(BIN)/python scripts/benchmarks/evaluation.py
	$(BIN)/python scripts/benchmarks/patching.py
	$(BIN)/python scripts/benchmarks/internals.py

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@
