.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv zarr2 clients demo serve test test-clients faults bench bench-full lint format vendor clean

PYTHON ?= python3
PORT ?= 8000
CONFIG ?= config/cubegate.yaml

# A server needs the first, the checks need both.
SERVER := .venv/.server
CHECKS := .venv/.checks

# What some tests drive as a client: zarr-python before version 3, which cannot be beside version 3.
ZARR2 := .venv-zarr2/.installed
ZARR2_PACKAGES := "zarr>=2.18,<3" "numcodecs<0.16" "xarray<2025" "pandas<3" fsspec aiohttp requests

# zarrita, for node and for Chromium.
ZARRITA := .zarrita/.installed

# What make bench measures beside cubegate, which must not choose what is installed beside cubegate.
BENCH := .venv-bench/.installed
BENCH_PACKAGES := "xpublish-zarr>=0.1" dask "uvicorn[standard]"
OPTIONS ?=

# What make test-clients drives beside what pip installs, and how Debian installs it; node and npm are expected.
PROGRAMS := chromium gdal-bin netcdf-bin nco cdo python3-qgis qgis-providers r-cran-terra
UPDATE ?= apt-get update -qq
INSTALL ?= DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends

# What the explorer page is served with: unmodified files of npm packages.
VENDORED := plugins/cubegate_plugins/explorer_page/vendor

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(CHECKS)  ## Make .venv with everything that the targets below need

demo: $(SERVER)  ## Make small demo cubes, serve them on PORT (8000), print lines to try
	.venv/bin/cubegate demo --directory demo-data --port $(PORT)

serve: $(SERVER)  ## Serve what CONFIG (config/cubegate.yaml) mounts
	.venv/bin/cubegate serve --config $(CONFIG)

test: $(CHECKS)  ## Run all tests but those that drive clients which pip does not install
	.venv/bin/python -m pytest -n 2 -m "not client"

clients: $(ZARR2) $(ZARRITA)  ## Install the clients that tests drive: QGIS, GDAL, R, netCDF tools, Chromium, zarrita, zarr 2
	missing="$$(for package in $(PROGRAMS); do \
	  dpkg-query --show --showformat='$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed || echo $$package; \
	done)"; test -z "$$missing" || { $(UPDATE) && $(INSTALL) $$missing; }

test-clients: $(CHECKS) clients  ## Install all clients and run the tests that drive them; OPTIONS="-m client" for these alone
	CUBEGATE_TEST_CLIENTS=1 .venv/bin/python -m pytest -n 2 tests/clients $(OPTIONS)

faults: $(CHECKS)  ## Put cubegate behind upstreams that misbehave, 5,000 times, in 8 minutes; OPTIONS="--seed 2"
	.venv/bin/python -m tests.faults $(OPTIONS)

zarr2: $(ZARR2)  ## Make .venv-zarr2, for the tests that drive zarr 2

bench: $(CHECKS)  ## Measure beside other readers in 8 minutes; OPTIONS=--smoke for one round of each
	-@$(MAKE) --no-print-directory $(BENCH)
	.venv/bin/python -m tests.benchmarks $(OPTIONS)

bench-full: $(CHECKS)  ## Measure with more rounds and points, in half an hour
	-@$(MAKE) --no-print-directory $(BENCH)
	.venv/bin/python -m tests.benchmarks --full $(OPTIONS)

lint: $(CHECKS)  ## Check style, types and layers
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: $(CHECKS)  ## Rewrite the code in the project's style
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

vendor:  ## Fetch the packages of the explorer page from npm again, and check them
	mkdir -p build/vendor
	cp $(VENDORED)/package.json build/vendor/
	cd build/vendor && npm install --ignore-scripts --no-audit --no-fund --no-package-lock
	cd build/vendor/node_modules && sha256sum --check --quiet $(CURDIR)/$(VENDORED)/SHA256SUMS
	cd build/vendor/node_modules && cut -c 67- $(CURDIR)/$(VENDORED)/SHA256SUMS | xargs cp --parents -t $(CURDIR)/$(VENDORED)

clean:  ## Remove .venv, .venv-zarr2, .venv-bench, .zarrita, the demo data and all caches
	rm -rf .venv .venv-zarr2 .venv-bench .zarrita build demo-data .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find service plugins tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

$(SERVER): pyproject.toml | .venv/bin/python
	.venv/bin/python -m pip install -e '.[all]'
	touch $@

$(CHECKS): pyproject.toml $(SERVER)
	.venv/bin/python -m pip install -e '.[all,dev]'
	touch $@

$(ZARR2): Makefile
	$(PYTHON) -m venv .venv-zarr2
	.venv-zarr2/bin/python -m pip install $(ZARR2_PACKAGES)
	touch $@

$(ZARRITA): tests/clients/zarrita/package.json tests/clients/zarrita/package-lock.json
	mkdir -p .zarrita
	cp $^ .zarrita/
	cd .zarrita && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

# Without xpublish-zarr its row says why.
$(BENCH): Makefile
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install $(BENCH_PACKAGES) >.venv-bench/pip.log 2>&1
	touch $@
