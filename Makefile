# Two commands to know: `make demo` and `make test`. Both need nothing but Python 3.11 or newer and make .venv first.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2

STAMP := $(VENV)/.stamp
ARVIZ1 := $(VENV)/arviz1
BIN := $(VENV)/bin
NEWER := 'import sys; sys.exit(sys.version_info < (3, 12))'
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# After --no-compile, a Python that may not keep its byte code compiles everything again at each start.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-slow campaigns test-arviz1 mutants lint format bench clean
.DELETE_ON_ERROR:

help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 14

demo: $(STAMP)  ## fit two models on embedded data, print a summary, leave pictures and a page in demo/
	$(BIN)/zoo demo

test: $(STAMP)  ## every quick test
	@$(BIN)/python -c $(NEWER) || $(MAKE) -s $(ARVIZ1)/.stamp || echo "so that the export is tested under one ArviZ only"
	$(PYTEST)

test-slow: $(STAMP)  ## the tests that take minutes
	$(PYTEST) -m slow --timeout 1800

campaigns: $(STAMP)  ## bad data, threads, kills, broken-off runs and faults: how many of each end wrong; half an hour
	@for campaign in bad_data threads kills broken_off faults; do \
		echo "== $$campaign"; \
		OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.campaigns.$$campaign || wrong=1; \
	done; test -z "$$wrong"

test-arviz1: $(ARVIZ1)/.stamp  ## the ArviZ export under ArviZ 1.x; needs Python 3.12 or newer
	ZOO_PYTHON312=$(ARVIZ1)/bin/python $(BIN)/python -m pytest tests/inference/posterior/test_containers.py -rs

FILES ?=
SAMPLE ?= 200
SEED ?= 0
mutants: $(STAMP)  ## do the tests see faults planted at random? hours; FILES=inference/codes/gaps.py SAMPLE=20 for a file
	$(BIN)/pip install --quiet --no-compile -c constraints.txt -e '.[mutants]'
	$(BIN)/python -m tests.campaigns.mutants $(FILES) --sample $(SAMPLE) --seed $(SEED) $(OPTIONS)

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## rewrite the sources as `make lint` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

BENCH ?= --quick
bench: $(STAMP)  ## speed and truth, side by side with other programs; hours of it with BENCH=
	$(BIN)/pip install --quiet --no-compile -c constraints.txt -e '.[bench]'
	@for script in examples/benchmarks/*.py; do \
		echo "== $$script"; \
		if grep -q -e '"--quick"' "$$script"; then options="$(BENCH)"; else options=; fi; \
		$(BIN)/python "$$script" $$options || exit 1; \
	done

clean:  ## remove caches and what runs left behind; keeps .venv
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt zoo/version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "zoo needs Python 3.11 or newer; set one with: make PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[test,lint,sklearn,parquet,flows]'
	@touch $@

$(ARVIZ1)/.stamp: constraints.txt | $(STAMP)
	@for python in "$$ZOO_PYTHON312" python3.14 python3.13 python3.12 python3 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python; do \
		"$$python" -c $(NEWER) 2>/dev/null && break; \
		python=; \
	done; \
	test -n "$$python" || { echo "ArviZ 1.x needs Python 3.12 or newer, and none was found"; exit 1; }; \
	"$$python" -m venv $(ARVIZ1) && \
		$(ARVIZ1)/bin/python -m pip install --quiet --no-compile -c constraints.txt 'arviz>=1' matplotlib h5netcdf h5py
	@touch $@
