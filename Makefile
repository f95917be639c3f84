# Every target makes the environment it needs first; nothing has to be set up by hand.
# PYTHON=/path/to/python3.11 names the interpreter; otherwise it is the newest optimised one.

PYTHON ?= python3
BIN    := .venv/bin
ARGS   ?=
CORES  := $(shell getconf _NPROCESSORS_ONLN)
# Tests mostly wait, for processes to start and leases to end: more of them at once than cores.
JOBS   ?= $(shell expr 2 \* $(CORES))
# What parts say that run side by side is kept together, where make can do that (4.0 and later).
SYNC   := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

# Tests start hundreds of processes: each would compile the same files again.
unexport PYTHONDONTWRITEBYTECODE

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help up test check check-types check-site check-proof check-code check-clients prove pages docs containers bench chaos rehearse soak kafka-versions postgres-versions redis-versions pythons generated-clients fmt clean env env-dev

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

up: EXTRA = $(if $(PAYLOADS),s3)
up: env ## Run everything here until Ctrl-C: real servers, migrations, API, workers, metrics (PAYLOADS=1: S3 too)
	@$(BIN)/crossfade up $(if $(PAYLOADS),--s3) $(ARGS)

test: env-dev ## Run every test on real servers (ARGS="-k name" for some; TEST_SERVICES=docker|external)
ifeq ($(strip $(ARGS)),)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not chaos and not quiet and not generated" --durations=25
	@$(BIN)/python -m pytest -m quiet --durations=10 $$(grep -rl 'mark\.quiet' tests --include='*.py')
else
	@$(BIN)/python -m pytest $(ARGS)
endif

check: env-dev ## Lint, format, types, imports, the site, the model of the order; the OpenAPI documents and compose.yml where their tools are
	@$(MAKE) -j $(CORES) $(SYNC) check-types check-site check-proof check-code check-clients

check-types:
	@$(BIN)/mypy

check-site:
	@$(BIN)/python -m docs.site.build

check-proof:
	@$(BIN)/python -m lab.proof

check-code:
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --diff . ; exit 1; }
	@$(BIN)/lint-imports

check-clients:
	@$(BIN)/python -m tests.generated_clients.lint
	@$(BIN)/python -m tests.console.javascript
	@clients/typescript/check
	@! docker compose version >/dev/null 2>&1 || docker compose -f compose/docker/compose.yml --profile kafka config --quiet

prove: env-dev ## Check the large models of the order argument (docs/proof.md)
	@$(BIN)/python -m lab.proof --large

pages: env-dev ## Write the pages, chapters and dashboards that are made from the code
	@$(BIN)/python -m compose.cli_page docs/cli.md
	@$(BIN)/python -m compose.settings_page > docs/settings.md
	@$(BIN)/python -m docs.site.access > docs/access.md
	@$(BIN)/python -m migration_guide.chapters
	@$(BIN)/python -m compose.dashboards

docs: env-dev ## Build the documentation site, strictly, in build/site/html
	@$(BIN)/python -m docs.site.build

containers: TEST_SERVICES = docker
containers: env-dev ## Build and run the container files on Docker, or as root on an engine of our own
	@$(BIN)/python -m tests.containers $(ARGS)

bench: EXTRA = bench
bench: env-dev ## Measure against the baselines, in one run; a table, and JSON in lab/bench/results
	@$(BIN)/python -m lab.bench $(ARGS)

chaos: env-dev ## Long fault runs: kill, suspend, cut, under load, then check every promise
	@$(BIN)/python -m pytest -m chaos $(ARGS)

KAFKA_VERSIONS ?= 3.6.2 3.9.1 4.0.0 4.4.0
kafka-versions: env-dev ## Hold the Kafka transport against other brokers (KAFKA_VERSIONS="3.6.2 4.4.0")
	@for version in $(KAFKA_VERSIONS); do echo "Kafka $$version"; \
	  CROSSFADE_KAFKA_VERSION=$$version $(BIN)/python -m pytest tests/kafka/test_kafka_conformance.py -n 2 -q $(ARGS) || exit 1; done

# Other majors than the tests run on otherwise.
POSTGRES_VERSIONS ?= 14.23.0 16.11.0 17.7.0
postgres-versions: env-dev ## Hold what uses PostgreSQL against other majors (POSTGRES_VERSIONS="14.23.0 17.7.0")
	@set -e; for version in $(POSTGRES_VERSIONS); do echo "PostgreSQL $$version"; \
	  programs=$$($(BIN)/python -m tests.support.postgres_versions $$version); \
	  PATH="$$programs:$$PATH" $(BIN)/python -m pytest tests/persistence tests/parity -n 2 -q $(ARGS); done

# Other versions than the tests run on otherwise.
REDIS_VERSIONS ?= redis-7.0.15 redis-8.2.3 valkey-8.1.8 valkey-9.0.0
redis-versions: env-dev ## Hold the Redis transport against other servers (REDIS_VERSIONS="redis-7.0.15 redis-8.2.3")
	@set -e; for version in $(REDIS_VERSIONS); do echo "$$version"; \
	  program=$$($(BIN)/python -m tests.support.redis_versions $$version); \
	  PATH="$$program:$$PATH" $(BIN)/python -m pytest tests/transport tests/shadow tests/hostile/redis_records -n 2 -q $(ARGS); done

pythons: env-dev ## Run the tests on every other Python of this machine that the project takes (ARGS="-k name")
	@set -e; found=$$($(BIN)/python -m tests.support.pythons); \
	for python in $$found; do echo "$$python"; env=build/pythons/$$(basename $$python); \
	  [ -x $$env/bin/pytest ] || $$python -m venv $$env; \
	  $$env/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[local,dev]' --editable clients/python --editable lab; \
	  $$env/bin/python -m pytest $(ARGS); done

generated-clients: env-dev ## Generate clients for Java, Go, TypeScript and Python, compile and run each
	@$(BIN)/python -m pytest tests/generated_clients -m "generated or not generated" $(ARGS)

rehearse: EXTRA = lab
rehearse: env ## Walk the migration there and back under load, and prove it (ARGS="--faults --minutes 10")
	@$(BIN)/crossfade migrate rehearse $(ARGS)

HOURS ?= 2
soak: EXTRA = lab
soak: env ## Load and faults for hours: is anything lost, does anything grow? (HOURS=48 ARGS="--rate 200")
	@$(BIN)/crossfade soak --hours $(HOURS) $(ARGS)

fmt: env-dev ## Format, and fix what can be fixed without judgement
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .
	@$(BIN)/python -m tests.console.javascript --fix

clean: ## Remove the environment and every cache (not .crossfade, which holds your messages)
	@rm -rf .venv .venv.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info lab/build lab/*.egg-info clients/python/build clients/python/*.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

env:
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) on the PATH; Crossfade needs Python 3.11 to 3.14" >&2; exit 1; }
	@$(PYTHON) compose/bootstrap.py local tracing client $(EXTRA)

env-dev:
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) on the PATH; Crossfade needs Python 3.11 to 3.14" >&2; exit 1; }
	@$(PYTHON) compose/bootstrap.py local dev $(EXTRA) $(filter docker,$(TEST_SERVICES))
