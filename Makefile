# What people and CI run. Everything happens in .venv, which `make install` makes with Python's own venv and pip.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PICTURE ?= demo.png
# File by file in the order of their names: the files with the longest tests are not those with the most, which xdist puts first.
TWO_AT_A_TIME := -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install demo test faults check format clean

help: ## Say what can be made
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' Makefile

install: $(STAMP) ## Set up .venv; instant when nothing has changed

$(STAMP): pyproject.toml clients/python/pyproject.toml constraints.txt clients/typescript/package-lock.json \
		web/package-lock.json tests/clients/node/package-lock.json scripts/install
	@scripts/install $(VENV)
	@touch $@

demo: install ## Start the service, make one picture with it, save demo.png, stop
	@$(BIN)/msd demo --out $(PICTURE) --force $(DEMO_OPTIONS)

# First what runs within one process, then what starts services, each with a Redis, ports and a folder of its own: both two at a
# time. At the end, one at a time, those tests of services that watch deadlines.
# Exit status 5 means that the options left no test of a kind.
test: install ## Run all tests, on the CPU
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO_AT_A_TIME) --ignore tests/e2e $(PYTEST_OPTIONS) || [ $$? -eq 5 ]
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO_AT_A_TIME) -m "not alone" tests/e2e $(PYTEST_OPTIONS) || [ $$? -eq 5 ]
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m alone tests/e2e $(PYTEST_OPTIONS) || [ $$? -eq 5 ]

faults: export OMP_NUM_THREADS ?= 1
faults: install ## Ten thousand random fault schedules, and the other long tests
	$(BIN)/python -m pytest --faults -m faults -s $(PYTEST_OPTIONS)

check: install ## Format, lint, types, layers, Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

format: install ## Format the code and sort its imports
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

clean: ## Remove .venv and what the tools keep
	rm -rf $(VENV) *.egg-info clients/python/*.egg-info build clients/python/build clients/typescript/node_modules \
		web/node_modules tests/clients/node/node_modules \
		.pytest_cache .ruff_cache .hypothesis .import_linter_cache
