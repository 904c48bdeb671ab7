# `make demo` and `make test` do everything on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
# Its published ADM network is a test oracle; what it declares to need (torchvision) is not needed for that.
ORACLE := azula

.PHONY: demo test test-browser lint types contracts pytest slow oracles catalogue solvers viewer clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps $(ORACLE)
	touch $@

demo: .venv/installed
	$(BIN)/invdiff demo -o demo $(if $(wildcard demo/recon.json),--force)

test: lint types contracts pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

contracts: .venv/installed
	$(BIN)/lint-imports

# One worker a core, of one thread each: two busy pools of threads on the same cores slow each other tenfold. Tests of one
# file stay together, so that what they share is made once.
pytest: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# Needs Debian's chromium, or another Chromium named by CHROMIUM=.
test-browser: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser

slow: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --slow

# Peers whose licence or weight keeps them out of the development environment. deepinv needs torchvision, which needs a
# torch of its own version, so this environment has another torch. SCANS=DIR adds the demo scans.
.oracles/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .oracles
	.oracles/bin/python -m pip install --quiet torch==2.14.1 torchvision==0.29.1
	grep -v '^torch==' constraints.txt > .oracles/constraints.txt
	.oracles/bin/python -m pip install --quiet --constraint .oracles/constraints.txt --editable ".[dev]" \
		astra-toolbox==2.5.0 bm3d==4.0.3 deepinv==0.5.0 sigpy==0.1.27 torchkbnufft==1.5.2
	touch $@

oracles: .oracles/installed
	.oracles/bin/python -m pytest tests/oracles
	.oracles/bin/python benchmarks/priors.py --only denoising $(if $(SCANS),--scans $(SCANS))

catalogue: .venv/installed
	$(BIN)/python -m invdiff.catalogue

# NiiVue from npm into the report; package-lock.json pins it and all that it needs by sha512, which `npm ci` checks.
ASSETS := cli/invdiff_cli/report/assets
BUNDLED := @lukeed/csprng @lukeed/uuid @ungap/structured-clone array-equal fflate gl-matrix nifti-reader-js

viewer:
	rm -rf build/viewer && mkdir -p build && cp -r cli/viewer build/viewer
	cd build/viewer && npm ci --ignore-scripts --no-audit --no-fund
	cd build/viewer && npx esbuild niivue.js --bundle --minify --legal-comments=none --alias:zarrita=./no-zarr.js \
		--format=iife --global-name=niivue --log-level=warning --outfile=niivue.min.js
	cp build/viewer/niivue.min.js $(ASSETS)/niivue.min.js
	(printf 'NiiVue\n\n'; cat cli/viewer/NIIVUE-LICENSE; cd build/viewer/node_modules; \
		for p in $(BUNDLED); do printf '\n\n%s\n\n' "$$p"; cat "$$p"/[Ll][Ii][Cc][Ee][Nn][Ss][Ee]*; done) \
		> $(ASSETS)/niivue.LICENSE.txt

solvers: .venv/installed
	$(BIN)/python -m invdiff.verification.tables docs/solvers.md

clean:
	rm -rf .venv .oracles build *.egg-info
