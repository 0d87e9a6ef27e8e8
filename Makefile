# Every target sets up what it needs: a virtual environment in .venv, filled from the lock files. Nothing global is touched.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
OUT := out
DEMO := sqlite:///$(OUT)/demo.db

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help setup demo test lint bench campaign lock clean

help:
	@echo "make demo    run two examples on an embedded ledger, replay one, explain a coalesce that failed"
	@echo "make test    lint, types and tests"
	@echo "make lint    ruff and mypy only"
	@echo "make bench   the figures, as ratios"
	@echo "make campaign  some hours of simulated runs, kills, power cuts, full disks, EIOs, zombies; on PostgreSQL too"
	@echo "make lock    write the lock files again from pyproject.toml"
	@echo "make clean   remove what the targets above made"

# --- set-up -------------------------------------------------------------------------------------------------------

.venv/.runtime: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.lock
	$(BIN)/python -m pip install --quiet -r requirements-dev.lock
	@touch $@

setup: .venv/.dev

# --- what one comes for -------------------------------------------------------------------------------------------

demo: .venv/.runtime
	rm -rf $(OUT)/demo.db* $(OUT)/demo.read.*
	mkdir -p $(OUT)/flights $(OUT)/branches
	$(BIN)/counterfoil run examples/flights/pipeline.yaml --run-id flights --ledger $(DEMO)
	$(BIN)/counterfoil replay flights --ledger $(DEMO)
	$(BIN)/counterfoil run examples/branches/pipeline.yaml --run-id branches --ledger $(DEMO)
	$(BIN)/counterfoil explain branches 1.strict.words --ledger $(DEMO)

test: lint
	$(BIN)/python -m pytest -n auto

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/.dev
	$(BIN)/python -m bench

campaign: .venv/.dev
	$(BIN)/python -m tests.simulation.simulated --seeds 100000
	$(BIN)/python -m tests.simulation.simulated --tiny
	$(BIN)/python -m tests.simulation.campaign all

lock:
	rm -rf $(OUT)/lock && mkdir -p $(OUT)
	$(PYTHON) -m venv $(OUT)/lock/runtime
	$(OUT)/lock/runtime/bin/python -m pip install --quiet .
	$(OUT)/lock/runtime/bin/python -m pip freeze --exclude counterfoil > requirements.lock
	$(PYTHON) -m venv $(OUT)/lock/dev
	$(OUT)/lock/dev/bin/python -m pip install --quiet -c requirements.lock ".[dev]"
	$(OUT)/lock/dev/bin/python -m pip freeze --exclude counterfoil > requirements-dev.lock

clean:
	rm -rf .venv $(OUT) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
