# Two commands for a new user: `make demo` and `make test`. Each makes its own .venv and says what it does.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SECOND := .venv-tflite
ARCH ?= $(shell uname -m)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint requirements.lock

.DEFAULT_GOAL := help
.PHONY: help demo test check test-tflite wheelhouse format lock clean

help:
	@echo "make demo    draw a sample shop, publish a signed release, sync a device, answer photos"
	@echo "make test    check style, types and import contracts, then run the tests, and the device's once more with tflite-runtime"
	@echo "make wheelhouse ARCH=x86_64|aarch64    build an offline install folder for a device"
	@echo "make format  let ruff format and mend what it can"
	@echo "make lock    resolve the dependencies anew into requirements.lock"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Shelfsight needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# Annoy is compiled for this very CPU (-march=native), which answers a quarter faster: a developer's environment is
# not carried to another machine. What is, `make wheelhouse` builds for every CPU.
$(VENV)/.demo-ready: pyproject.toml requirements.lock | $(BIN)/python
	@echo "installing the device and the server into $(VENV) (compiles Annoy; no TensorFlow)"
	@$(PIP) --editable '.[cloud,kiosk]'
	@touch $@

$(VENV)/.test-ready: pyproject.toml requirements.lock | $(BIN)/python
	@echo "installing everything into $(VENV), TensorFlow included (about 1 GB)"
	@$(PIP) --editable '.[camera,cloud,kiosk,train,dev]'
	@touch $@ $(VENV)/.demo-ready

# The other runtime, which needs an older numpy and so an environment of its own; nothing but what a device needs.
$(SECOND)/.ready: pyproject.toml requirements-tflite.lock | $(BIN)/python
	@echo "installing the device with tflite-runtime and numpy 1 into $(SECOND)"
	@$(BIN)/python -m venv --clear $(SECOND)
	@$(SECOND)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --requirement requirements-tflite.lock
	@$(SECOND)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --editable .
	@touch $@

demo: $(VENV)/.demo-ready
	@$(BIN)/shelfsight-cloud demo $(ARGS)

check: $(VENV)/.test-ready
	@echo "checking style (ruff), types (mypy --strict) and import contracts (import-linter)"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Two processes, each with whole files of tests, for what one file's tests share is made once.
IN_TWO := --numprocesses 2 --dist loadfile

test: check
	@echo "running the tests"
	@$(BIN)/pytest $(or $(ARGS),$(IN_TWO))
ifndef ARGS
	@$(MAKE) --no-print-directory test-tflite
endif

# What touches neither a runtime nor numpy is the same with either.
NOT_TWICE := $(addprefix --ignore=tests/edge/test_,disk.py event_stream.py events.py faults.py fields.py gathering.py \
  heartbeat.py installation.py outbox.py power_cuts.py release.py transport.py trust.py updater.py) \
  $(addprefix --ignore=tests/devices/test_,config.py delivery.py hardware.py hints.py relay.py sync_loop.py \
  wheelhouse.py)

# tflite-runtime has no wheel for Python 3.12 or newer: there the first run has to do.
ifeq ($(shell $(firstword $(wildcard $(BIN)/python) $(PYTHON)) -c 'import sys; print(sys.version_info < (3, 12))' 2>/dev/null),True)
test-tflite: $(SECOND)/.ready
	@echo "running the device's tests once more, with tflite-runtime and numpy 1"
	@$(SECOND)/bin/pytest -p no:cacheprovider $(IN_TWO) tests/edge tests/devices $(NOT_TWICE)
else
test-tflite:
	@echo "not tested with tflite-runtime, which has no wheel for Python 3.12 or newer"
endif

wheelhouse: | $(BIN)/python
	@$(BIN)/python -m tools.wheelhouse --arch $(ARCH)

format: $(VENV)/.test-ready
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

# Each runtime has a lock of its own, for they need different versions of numpy.
LOCK_WITH := $(BIN)/uv pip compile --quiet --universal --no-emit-index-url --no-header --upgrade pyproject.toml

lock: $(VENV)/.test-ready
	@$(PIP) uv
	@$(LOCK_WITH) --extra camera --extra cloud --extra kiosk --extra train --extra dev -o requirements.lock
	@mkdir -p build && echo "ai-edge-litert; python_version < '3'" >build/without-litert.txt
	@$(LOCK_WITH) --extra camera --extra kiosk --extra test --extra tflite-runtime --overrides build/without-litert.txt \
	  -o requirements-tflite.lock

clean:
	rm -rf demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
