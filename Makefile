# What people and CI run. Everything happens in .venv, which `make install` makes with Python's own venv and pip.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PICTURE ?= demo.png

.DEFAULT_GOAL := help
.PHONY: help install demo test faults check format clean

help: ## Say what can be made
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' Makefile

install: $(STAMP) ## Set up .venv; instant when nothing has changed

$(STAMP): pyproject.toml constraints.txt scripts/install
	@scripts/install $(VENV)
	@touch $@

demo: install ## Start the service, make one picture with it, save demo.png, stop
	@$(BIN)/msd demo --out $(PICTURE) $(DEMO_OPTIONS)

# Small tensors gain nothing from more threads, and several tests start processes of their own.
test: export OMP_NUM_THREADS ?= 2
test: install ## Run all tests, on the CPU
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

faults: export OMP_NUM_THREADS ?= 1
faults: install ## Ten thousand random fault schedules, and the long fault tests
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
	rm -rf $(VENV) *.egg-info build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
