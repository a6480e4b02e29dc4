# On a fresh machine with Python 3.11 or newer: `make run`, `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LISTEN ?= 127.0.0.1:8080
THREADS ?= 8
# shop/serving/server.py says why; `python -m shop serve` takes the same.
SERVER := --ident= --asyncore-use-poll --connection-limit=900 --channel-timeout=60 \
	--max-request-body-size=1073741824

.DEFAULT_GOAL := help
.PHONY: help run test lint bench clean

help:  ## Show what there is to make.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/installed  ## Serve the shop at 127.0.0.1:8080, by default on SQLite.
	@case '$(THREADS)' in ''|0*|*[!0-9]*) \
	echo 'THREADS must be a number from 1 on, not $(THREADS)' >&2; exit 2;; esac
	@# The system would take a larger one modulo 65536.
	@port='$(LISTEN)'; if [ "$${port##*:}" -gt 65535 ] 2>/dev/null; then \
	echo 'LISTEN must have a port up to 65535, not $(LISTEN)' >&2; exit 2; fi
	exec $(BIN)/waitress-serve --listen=$(LISTEN) --threads=$(THREADS) $(SERVER) wsgi:app

test: $(VENV)/installed-dev  ## Run every test.
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev  ## Check style, types and the direction of imports.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed-dev  ## Measure, each figure beside the raw driver's.
	$(BIN)/python -m bench

clean:  ## Remove the environment and all caches, never the data.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .schemathesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# pip is there last: an environment without it was left half-made.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("$(PYTHON) is Python \
	%d.%d, and 3.11 or newer is needed: name one, as in `make run PYTHON=python3.11`" % v[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt requirements.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/installed
