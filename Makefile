.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo serve test test-clients lint format clean

PYTHON ?= python3
PORT ?= 8000
CONFIG ?= config/cubegate.yaml

# A server needs the first, the checks need both.
SERVER := .venv/.server
CHECKS := .venv/.checks

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(CHECKS)  ## Make .venv with everything that the targets below need

demo: $(SERVER)  ## Make small demo cubes, serve them on PORT (8000), print lines to try
	.venv/bin/cubegate demo --directory demo-data --port $(PORT)

serve: $(SERVER)  ## Serve what CONFIG (config/cubegate.yaml) mounts
	.venv/bin/cubegate serve --config $(CONFIG)

test: $(CHECKS)  ## Run all tests
	.venv/bin/python -m pytest -n 2

test-clients: $(CHECKS)  ## Run only the tests that drive a server with real clients
	.venv/bin/python -m pytest tests/clients

lint: $(CHECKS)  ## Check style, types and layers
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: $(CHECKS)  ## Rewrite the code in the project's style
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

clean:  ## Remove .venv, the demo data and all caches
	rm -rf .venv demo-data .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find service plugins tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

$(SERVER): pyproject.toml | .venv/bin/python
	.venv/bin/python -m pip install -e '.[all]'
	touch $@

$(CHECKS): pyproject.toml $(SERVER)
	.venv/bin/python -m pip install -e '.[all,dev]'
	touch $@
