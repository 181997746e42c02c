# `make quickstart` sets up and runs the main job; `make test` sets up and runs the tests.
# ARGS are passed on: make quickstart ARGS='--out runs/mine'

VENV := .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
# Where torch should come from, if not from the package index: e.g. https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
ARGS ?=
CONSTRAINTS := requirements/constraints.txt

# uv is quicker where it is found; continuous integration keeps to what every machine has.
UV := $(if $(CI),,$(shell command -v uv 2>/dev/null))
ifeq ($(UV),)
  CREATE := $(PYTHON) -m venv $(VENV)
  INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
else
  CREATE := $(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
  INSTALL := $(UV) pip install --quiet --python $(VENV)/bin/python
endif

.PHONY: setup setup-dev quickstart test test-fast lint clean

setup: $(VENV)/.train
setup-dev: $(VENV)/.dev

$(VENV)/bin/python:
	$(CREATE)

# torch first and alone: resolved together with the rest, pip would fetch the largest CUDA build.
$(VENV)/.torch: | $(VENV)/bin/python
	@echo "installing $(TORCH) ..."
	$(INSTALL) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	@touch $@

$(VENV)/.train: pyproject.toml $(CONSTRAINTS) $(VENV)/.torch
	@echo "installing flantune ..."
	$(INSTALL) -c $(CONSTRAINTS) -e ".[train]"
	$(VENV)/bin/flantune model fetch
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	@echo "installing the test tools ..."
	$(INSTALL) -c $(CONSTRAINTS) -e ".[dev]"
	@touch $@

quickstart: setup
	$(VENV)/bin/flantune quickstart $(ARGS)

test: setup-dev
	$(VENV)/bin/python -m pytest $(ARGS)

test-fast: setup-dev
	$(VENV)/bin/python -m pytest -m "not slow" $(ARGS)

lint: setup-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyrefly check

clean:
	rm -rf $(VENV) build dist src/*.egg-info
