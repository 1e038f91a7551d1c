# The two commands of the README, and what they stand on. Everything is installed into .venv by pip from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
CONFIG ?= configs/demo.yaml

.PHONY: demo test all-tests test-fast lint types docs docs-serve services install lock ui board clean help

help:
	@echo "make demo       install, make the embedded data, run LOSO on it, print the scores"
	@echo "make test       install, lint, types, all tests"
	@echo "make test-fast  the tests that start neither Ray nor MLflow nor a long training"
	@echo "make ui         MLflow's pages over your runs, on 127.0.0.1"
	@echo "make docs       the documentation as a site, in site/; make docs-serve shows it on 127.0.0.1:8000"
	@echo "make board      the page of the results in results/: site/board.html"
	@echo "make install | services | lock | clean"

demo: install
	$(BIN)/python jobs/loso.py $(CONFIG)
	@echo "to look closer: make ui, then http://127.0.0.1:5000"

# Types are checked beside the tests, which wait a good part of their time for processes to start.
test: install services lint
	@$(MAKE) --no-print-directory -j2 types all-tests docs

# One file after the other, in the order of tests/conftest.py. Three at once on two cores: they wait a lot.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

all-tests: install
	$(PYTEST)

test-fast: install
	$(PYTEST) -m "not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: install
	$(BIN)/pyright

# A warning is an error: a link or an anchor that leads nowhere, a page that is not in mkdocs.yml.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8000

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "distmer needs Python 3.11 or later: make PYTHON=python3.11 …"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "the venv module is missing: on Debian, apt-get install python3-venv"; exit 1; }
	@echo "installing the pinned packages into .venv (some minutes the first time) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# PostgreSQL's programs, for tests/mlflow/test_service.py, which is skipped without them. No service is started (RUNLEVEL=1).
services:
	@if command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing PostgreSQL's programs …"; \
	  apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql; \
	else echo "PostgreSQL's programs are missing, so the test of the tracking service is skipped: apt-get install postgresql"; fi

# A new lock from the ranges of pyproject.toml: a clean environment, resolved afresh, frozen.
lock:
	rm -rf .lock-venv && $(PYTHON) -m venv .lock-venv
	.lock-venv/bin/pip install --quiet --upgrade pip
	.lock-venv/bin/pip install --quiet torch==2.13.0
	.lock-venv/bin/pip install --quiet . --group dev
	{ echo "# Made by \`make lock\` for Python 3.11. Install: pip install -r requirements.lock"; \
	  .lock-venv/bin/pip freeze --exclude distmer | sed 's/+cpu$$//'; } > requirements.lock
	rm -rf .lock-venv

ui: install
	$(BIN)/distmer ui

board: install
	$(BIN)/distmer board results --output site/board.html

clean:
	rm -rf site .venv .lock-venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
