# The few commands that people and continuous integration need. Each prepares what it needs itself
# and is quick when nothing changed. `make` alone lists them.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help run test check bench faults soak clean dev

BIN := .venv/bin
# The Consul program that you name, the one on PATH, or the one we fetch; false if there is none.
with_consul = CONSUL_BIN="$$(scripts/get-consul .cache/bin)" && export CONSUL_BIN
# Where the agent will keep its data: its Consul program and its voices are looked for there.
DATA_DIR = $${LICTOR_DATA_DIR:-$$([ "$$(id -u)" = 0 ] && echo /var/lib/lictor \
	|| echo "$${XDG_STATE_HOME:-$$HOME/.local/state}/lictor")}

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: ## start the agent with config.yml: Piper, Consul and what else it names
	@scripts/bootstrap
	@$(BIN)/lictor install -c config.yml piper \
		|| echo "make: Piper could not be installed; Lictor starts, and its status says what is missing." >&2
	@scripts/get-consul "$(DATA_DIR)/bin" >/dev/null \
		|| echo "make: no Consul program could be had; Lictor starts all the same." >&2
	@exec $(BIN)/lictor up -c config.yml

# Tests mostly wait (for a process, for Consul), so several at a time: JOBS=0 takes one by one.
JOBS ?= 4

# Without Consul, or the services that are really run (450 MB, once), some tests have nothing to talk
# to: skipped on a desk, failed in CI.
test: check ## run the linters, then every test
	@LICTOR_DATA_DIR="$(CURDIR)/.cache/services" $(BIN)/lictor install piper whisper llm || true
	@$(with_consul) || unset CONSUL_BIN; exec $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: dev ## run the linters only: style, format, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

faults: dev ## try every fault of the Consul checklist; writes build/faults.md
	@$(with_consul) && exec $(BIN)/python -m pytest -m checklist -p tests.support.fault_report

bench: dev ## measure beside the peers; writes docs/reference/benchmarks.md
	@sh bench/peers/install .cache/bench "$(CURDIR)/$(BIN)/python"
	@$(with_consul) || unset CONSUL_BIN; PATH="$(CURDIR)/.cache/bench/venv/bin:$$PATH" \
		exec $(BIN)/python bench/report.py docs/reference/benchmarks.md

# The same tests as in `make test`, with their large numbers.
soak: dev ## try at full length what runs for long: crowds, restarts under an open page, chaos
	@$(with_consul) && LICTOR_SOAK=1 exec $(BIN)/python -m pytest --timeout 1800 \
		tests/web/test_crowd.py tests/browser/test_endurance.py tests/e2e/test_chaos.py

clean: ## remove caches and build products; .venv and .cache stay
	@rm -rf build dist lictor.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	@find lictor tests bench -type d -name __pycache__ -prune -exec rm -rf {} +

dev:
	@scripts/bootstrap dev
