# Needs Python 3.11 or later and make; everything else is installed from the lock files.

PYTHON ?= python3
BIN := .venv/bin
DEMO_ARGS ?=
UP_ARGS ?=
DOWN_ARGS ?=
PYTEST_ARGS ?=
WORKERS ?= 3
BENCH_ARGS ?=
SEEDS ?= 1000
CHAOS_ARGS ?=

# Quick ones first: what fails in them needs no broker to understand. Three processes share them, a file at a time, each with a broker and a
# database of its own: one alone leaves the cores idle while it waits.
SUITES := $(wildcard $(addprefix tests/,unit simulation contract integration e2e chaos))
SHARED := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# Addresses and headers would name a registry; the packages are named by their coordinates and hashes alone.
COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate --quiet

.DEFAULT_GOAL := help
.PHONY: help demo up down test containers lint format types layers unit simulate chaos schemas lock bench clean runtime dev

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: runtime ## Run the demonstration on a Kafka and a PostgreSQL of its own (DEMO_ARGS="--json FILE")
	@$(BIN)/refbus demo $(DEMO_ARGS)

up: runtime ## Bring the bus up and leave it up until Ctrl-C; its data stays
	@$(BIN)/refbus up $(UP_ARGS)

down: runtime ## Take down a bus that is up (DOWN_ARGS=--wipe removes its data)
	@$(BIN)/refbus down $(DOWN_ARGS)

# The services are compiled first, as pip compiles what it installs: the tests start them, and commands, some hundred times, and where Python
# is told to write no bytecode (PYTHONDONTWRITEBYTECODE) each would compile them anew.
test: lint types layers ## Run every check and every test, on a real Kafka and PostgreSQL
	@$(BIN)/python -m referral_bus.embedded.prepared
	@$(BIN)/python -m compileall -q referral_bus services
	@$(BIN)/pytest $(SHARED) $(SUITES) $(PYTEST_ARGS)

containers: dev ## Build the images, bring the bus up in containers, and run the end-to-end test on it
	@$(BIN)/pytest tests/containers $(PYTEST_ARGS)

chaos: dev ## Strike at a cluster of three brokers and two of each service, and check it (root for all kinds; CHAOS_ARGS="--seed 2")
	@$(BIN)/python -m referral_bus.embedded.prepared
	@$(BIN)/python -m tests.chaos.cluster run $(CHAOS_ARGS)

lint: dev ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: dev ## Put style and formatting right
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: dev ## Check types, strictly
	@$(BIN)/mypy

layers: dev ## Check that the parts import only what they may
	@$(BIN)/lint-imports

unit: dev ## Run the fast tests: no broker, no database
	@$(BIN)/pytest tests/unit $(PYTEST_ARGS)

simulate: dev ## Run the services' logic in one process from as many seeds (SEEDS=1000), crashes and all
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

schemas: dev ## Write the Avro schemas of new and changed messages
	@$(BIN)/python -m referral_bus.wire

lock: dev ## Pin the newest packages that pyproject.toml allows, and the broker's jars
	$(COMPILE) --upgrade --extra demo --extra tracing --group dev -o requirements-dev.lock
	$(COMPILE) --upgrade --extra demo --group build -c requirements-dev.lock -o requirements.lock
	$(COMPILE) --upgrade --extra intake --extra matching --extra notifier --extra projections --extra tracing --group build \
		-c requirements-dev.lock -o requirements-services.lock
	$(COMPILE) --upgrade --extra demo --group build --group bench -o requirements-bench.lock
	$(BIN)/python -m referral_bus.embedded.download > referral_bus/embedded/kafka.lock.new
	mv referral_bus/embedded/kafka.lock.new referral_bus/embedded/kafka.lock
	$(BIN)/python -m benchmarks.java > benchmarks/peers/kafka_streams/jars.lock.new
	mv benchmarks/peers/kafka_streams/jars.lock.new benchmarks/peers/kafka_streams/jars.lock

bench: ## Run the benchmarks, each beside a peer; tables on the screen, JSON in benchmarks/results
	@$(call environment,bench)
	@.venv-bench/bin/python -m benchmarks $(BENCH_ARGS)

clean: ## Remove the environments and what the tools left behind (not a bus's data, not the user's cache)
	@rm -rf .venv .venv-bench build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

runtime dev:
	@$(call environment,$@)

define environment
command -v $(PYTHON) >/dev/null || { echo "refbus: there is no $(PYTHON). Install Python 3.11 or later, or name one: make PYTHON=python3.12 ..." >&2; exit 1; }; \
$(PYTHON) tools/environment.py $(1)
endef
