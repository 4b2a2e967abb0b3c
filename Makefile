# `make train` and `make test` set everything up by themselves: Python 3.11 or newer, make and a package index are enough.
PYTHON ?= python3
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check
BIN := .venv/bin

.PHONY: train test test-all lint format clean

train: .venv/core.stamp  ## deep Q-learning solves cart-pole: score, curve.png and how to watch it
	$(BIN)/jaxrl train dqn --env CartPole-v1

test: .venv/dev.stamp  ## the tests
	$(BIN)/python -m pytest -n 2 --dist loadscope

test-all: .venv/dev.stamp  ## the tests and the longer learning tests
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "slow or not slow"

lint: .venv/dev.stamp  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than Python 3.11; run: make PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/core.stamp: requirements.txt pyproject.toml | .venv/bin/python
	$(PIP) -r requirements.txt
	$(PIP) --no-deps --config-settings editable_mode=compat --editable .
	@touch $@

.venv/dev.stamp: requirements-dev.txt pyproject.toml | .venv/bin/python
	$(PIP) -r requirements-dev.txt
	$(PIP) --no-deps --config-settings editable_mode=compat --editable .
	@touch $@ .venv/core.stamp
