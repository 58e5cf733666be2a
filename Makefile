# Every target works on a fresh clone; `make setup` costs well under a second once .venv/ is up to date.
PYTHON ?= python3
# A United flight from Newark to Chicago, due out at 17:30 and in at 19:05 on a Friday, in rain.
FLIGHT := carrier=UA origin=EWR dest=ORD hour=17 sched_dep_minute=1050 sched_arr_minute=1145 day_of_week=5 \
	distance=719 temp=68 humid=90 wind_speed=18 precip=0.2 visib=3
PACKAGES := $(wildcard core schemas records ingest transform trainer ledger lineage monitoring serving components pipeline cli)
# Where this is set Python compiles nothing, and TFX takes three times as long to import.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
.PHONY: help setup run test e2e golden lint type format bench continual drill flink test-current image-check locks clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv/ (PYTHON=python3.11 and PERENNIAL_STACK=compat|current override what is picked)
	@$(PYTHON) tools/bootstrap.py

run: setup ## Ingest real flights, train on 8 weeks, run 6 weekly cycles, show the result
	@.venv/bin/perennial ingest && .venv/bin/perennial run --spans 8..14
	@.venv/bin/perennial status && .venv/bin/perennial lineage model champion
	@.venv/bin/perennial predict $(FLIGHT)

test: setup ## Run all tests in two processes, or some: make test ARGS="tests/ledger -q"
	@.venv/bin/python -m pytest -n 2 --dist loadgroup $(ARGS)

e2e: setup ## Run the end-to-end tests only
	@.venv/bin/python -m pytest -m e2e

golden: setup ## Regenerate the golden files; review the diff
	@UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/golden

lint: setup ## Check style, format and the import contracts
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .
	@.venv/bin/lint-imports

type: setup ## Check types, strictly
	@.venv/bin/mypy $(PACKAGES) tools

format: setup ## Format, and fix what can be fixed safely
	@.venv/bin/ruff check --fix . && .venv/bin/ruff format .

bench: setup ## Measure a cycle against stock TFX's (ARGS=all for everything, or a name of benchmarks/__main__.py)
	@.venv/bin/python -m benchmarks $(ARGS)

continual: setup ## Compare ways to keep learning on a year of flights (ARGS=--quick for a smoke test)
	@.venv/bin/python -m benchmarks.continual $(ARGS)

drill: setup ## Kill real runs at every node, fill the disk, jump the clock; then check that nothing was lost (ARGS=--quick)
	@.venv/bin/python -m tools.drill $(ARGS)

flink: setup ## Fetch Flink and Beam's job server for it; python -m tools.flink starts a small cluster
	@.venv/bin/python -m tools.flink fetch

test-current: ## Run the unit tests and one end-to-end test on the current stack, in a Debian 13 root
	@tools/test_current.sh

image-check: setup ## Carry out deploy/Dockerfile in a Debian 13 root, and run in it what an image must run
	@tools/image_check.sh

locks: setup ## Resolve requirements/*.lock again (LOCKS=--upgrade for the newest versions)
	@.venv/bin/python -m tools.locks $(LOCKS)

clean: ## Remove what the other targets made
	rm -rf var .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
