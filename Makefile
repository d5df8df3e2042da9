# The one task file: `make` lists the tasks. Every task sets up what it needs and can be repeated.
PYTHON ?= python3
VENV ?= .venv
# Test processes; a file's tests stay together, since they share what is costly to set up.
JOBS ?= auto
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test crash lint types imports bare bench lock torch qdrant openvino clean ci

help:  ## list the tasks
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

$(VENV)/.runtime: requirements/build.txt requirements/runtime.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; set PYTHON=')"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(VENV)/.runtime  ## set up, load this project's documents and history, recall answers
	$(BIN)/python scripts/demo.py

test: $(VENV)/.dev  ## set up and run the tests with branch coverage
	$(BIN)/python -m coverage erase
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --cov --cov-report=term $(TESTS)

crash: $(VENV)/.dev  ## the fault tests at length: 1,000 SIGKILLs, 60 s of 8 writers and 8 readers
	$(BIN)/python -m pytest tests/faults --crashes 1000 --seconds 60

lint: $(VENV)/.dev  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## mypy --strict
	$(BIN)/mypy

imports: $(VENV)/.dev  ## import contracts
	$(BIN)/lint-imports

bare: $(VENV)/.runtime  ## a plain install: its size, what it holds, and that it works
	$(PYTHON) scripts/check_install.py

bench: $(VENV)/.dev  ## start-up, load and scale figures
	$(BIN)/python scripts/benchmark_startup.py
	$(BIN)/python scripts/benchmark_load.py
	$(BIN)/python scripts/benchmark_scale.py

torch: $(VENV)/.dev  ## the torch exporter, tested in an environment of its own
	$(PYTHON) -m venv $(VENV)-torch
	$(VENV)-torch/bin/python -m pip install --quiet -r requirements/golden.txt -r requirements/torch-test.txt
	$(VENV)-torch/bin/python -m pip install --quiet --editable .
	$(VENV)-torch/bin/python -m pytest tests/models/test_torch_exporter.py

$(VENV)-qdrant/.ready: requirements/build.txt requirements/dev.txt requirements/qdrant.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)-qdrant
	$(VENV)-qdrant/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt -r requirements/dev.txt -r requirements/qdrant.txt
	$(VENV)-qdrant/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

qdrant: export COVERAGE_FILE = .coverage-qdrant
qdrant: $(VENV)-qdrant/.ready  ## the Qdrant adapter, tested in an environment that has its client
	$(VENV)-qdrant/bin/python -m coverage erase
	$(VENV)-qdrant/bin/python -m pytest -n $(JOBS) --dist loadfile --cov --cov-report= --cov-fail-under=0 tests/qdrant
	$(VENV)-qdrant/bin/python -m coverage report --omit=none --include='*/qdrant_*,*/replicat*,*/reconciliation.py,*/outbox.py'

$(VENV)-openvino/.ready: requirements/build.txt requirements/dev.txt requirements/openvino.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)-openvino
	$(VENV)-openvino/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt -r requirements/dev.txt -r requirements/openvino.txt
	$(VENV)-openvino/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

openvino: export COVERAGE_FILE = .coverage-openvino
openvino: $(VENV)-openvino/.ready  ## the OpenVINO provider, tested in an environment that has it
	$(VENV)-openvino/bin/python -m coverage erase
	$(VENV)-openvino/bin/python -m pytest --cov --cov-report= --cov-fail-under=0 tests/on_openvino
	$(VENV)-openvino/bin/python -m coverage report --omit=none --include='*/openvino_*'

lock: $(VENV)/.dev  ## renew the hashed requirements
	$(BIN)/python scripts/lock.py

ci: test qdrant openvino lint types imports bare demo  ## everything that must hold before a merge

clean:  ## remove what the other tasks made
	rm -rf $(VENV) $(VENV)-torch $(VENV)-qdrant $(VENV)-openvino .coverage .coverage-qdrant .coverage-openvino .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
