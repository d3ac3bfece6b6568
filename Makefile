# Each target sets up what it needs in .venv; nothing has to be installed before but Python and make.
PYTHON ?= python3
PIP_FLAGS ?=
BIN := .venv/bin
# One thread a worker: the workers share the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint types format leaderboard bench web docs dist clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.installed  ## Fit and train the flagship on shipped Geant4 showers, generate, judge: about six minutes
	$(BIN)/caloforge demo

test: .venv/.test  ## All tests that take seconds
	$(PYTEST) -m "not slow and not gpu and not browser"

test-all: .venv/.test  ## Also the slow ones, and those that need a GPU or a browser (else skipped)
	$(PYTEST)

lint: .venv/.dev  ## ruff: style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev  ## mypy, strict
	$(BIN)/mypy

format: .venv/.dev  ## Let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

SYSTEM ?= S4
leaderboard: .venv/.installed  ## Judge all shipped generators of SYSTEM=S1...S5 or flagship; DATA=FOLDER: on whole files, not samples
	$(BIN)/python tools/leaderboard.py $(SYSTEM) $(RUNS) $(if $(DATA),--data $(DATA)) $(if $(LIKE),--like $(LIKE))

bench: .venv/.installed  ## All benchmarks, short: see benchmarks/README.md
	$(BIN)/python benchmarks/training.py --quick
	$(BIN)/python benchmarks/generation.py --quick
	$(BIN)/python benchmarks/evaluation.py --quick
	$(BIN)/python benchmarks/distances.py --quick
	$(BIN)/python benchmarks/files.py --quick

web:  ## Build the explorer's page again from web/ (needs npm)
	cd web && npm ci && npm run check && npm run build

docs: .venv/.docs  ## The site in docs/_build/html, its examples executed; EXPLORE="MODEL ...": with the explorer of these
	OMP_NUM_THREADS=1 $(BIN)/python tools/site.py $(if $(EXPLORE),--explore $(EXPLORE))

dist: .venv/.dist  ## Wheel and source archive in dist/
	rm -rf build dist
	$(BIN)/python -m build

clean:  ## Remove the environment, caches and the demo's output
	rm -rf .venv demo leaderboard build dist docs/_build docs/generated src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Set-up, done once and again when the dependencies change.
.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -c constraints.txt -e .
	@touch $@

.venv/.test: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -c constraints.txt -e ".[test]"
	@touch $@ .venv/.installed

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	@touch $@ .venv/.test .venv/.installed

.venv/.docs: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -c constraints.txt -e ".[docs]"
	@touch $@ .venv/.installed

.venv/.dist: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q $(PIP_FLAGS) -c constraints.txt -e ".[dist]"
	@touch $@ .venv/.installed
