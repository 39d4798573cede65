# Two commands for a new user: `make demo` and `make test`. Each makes its own .venv and says what it does.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint requirements.lock

.DEFAULT_GOAL := help
.PHONY: help demo test check format lock clean

help:
	@echo "make demo    draw a sample shop, publish a signed release, sync a device, answer photos"
	@echo "make test    check style, types and import contracts, then run the tests"
	@echo "make format  let ruff format and mend what it can"
	@echo "make lock    resolve the dependencies anew into requirements.lock"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Shelfsight needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-ready: pyproject.toml requirements.lock | $(BIN)/python
	@echo "installing the device and the server into $(VENV) (compiles Annoy; no TensorFlow)"
	@$(PIP) --editable '.[cloud,kiosk]'
	@touch $@

$(VENV)/.test-ready: pyproject.toml requirements.lock | $(BIN)/python
	@echo "installing everything into $(VENV), TensorFlow included (about 1 GB)"
	@$(PIP) --editable '.[camera,cloud,kiosk,train,dev]'
	@touch $@ $(VENV)/.demo-ready

demo: $(VENV)/.demo-ready
	@$(BIN)/shelfsight-cloud demo $(ARGS)

check: $(VENV)/.test-ready
	@echo "checking style (ruff), types (mypy --strict) and import contracts (import-linter)"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test: check
	@echo "running the tests"
	@$(BIN)/pytest $(ARGS)

format: $(VENV)/.test-ready
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

lock: $(VENV)/.test-ready
	@$(PIP) uv
	@$(BIN)/uv pip compile --quiet --universal --all-extras --no-emit-index-url --no-header --upgrade pyproject.toml -o requirements.lock

clean:
	rm -rf demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
