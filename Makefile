# `make help` lists what there is. Everything is installed into .venv, and again when pyproject.toml changes.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# Directories and files that may not be there yet are left out: mypy refuses what it cannot find.
TYPED  := chronomap $(wildcard examples/*.py tests/typing/*.py)

# Two targets that install into the same environment must not run at once.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test lint ruff format typecheck imports changelog links soak crash bench bench-quick clean

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/.stamp-demo  ## Show what ChronoMap does, on real data
	$(BIN)/python -m chronomap demo

test: $(VENV)/.stamp-dev  ## Run the tests; PYTEST_ADDOPTS is honoured
	$(BIN)/python -m pytest

lint: ruff format typecheck imports changelog links  ## Run every check below; with -k, all of them even if one fails

ruff: $(VENV)/.stamp-dev  ## Check the style
	$(BIN)/ruff check .

format: $(VENV)/.stamp-dev  ## Check the formatting (to apply it: .venv/bin/ruff format)
	$(BIN)/ruff format --check .

typecheck: $(VENV)/.stamp-dev  ## Check the types
	$(BIN)/mypy $(TYPED)

imports: $(VENV)/.stamp-dev  ## Check that imports keep to the floors of docs/design.md
	$(BIN)/lint-imports --no-logo

changelog: $(VENV)/.stamp-dev  ## Check the fragments in changelog.d by building the notes
	$(BIN)/towncrier build --draft

links: $(VENV)/.stamp-dev  ## Check that relative links in the documentation lead somewhere
	$(BIN)/python .ci/check_links.py

soak: $(VENV)/.stamp-dev  ## Run the random model test for a long time
	CHRONOMAP_SOAK=1 $(BIN)/python -m pytest -m soak

crash: $(VENV)/.stamp-dev  ## Kill processes, cut the power and break disks for half an hour; CHRONOMAP_CRASH_CYCLES is how often
	CHRONOMAP_CRASH_CYCLES=$${CHRONOMAP_CRASH_CYCLES:-300} $(BIN)/python -m pytest tests/crash --timeout 0

bench: $(VENV)/.stamp-dev  ## Measure beside others (some twenty minutes); say which: make bench ONLY="get put"
	$(BIN)/python -m benchmarks $(ONLY)

bench-quick: $(VENV)/.stamp-dev  ## Measure what is wanted, in two minutes
	$(BIN)/python -m benchmarks --quick $(ONLY)

clean:  ## Remove everything that was made, the environment included
	rm -rf $(VENV) benchmarks/.environments build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# What the demo needs and no more, so that it starts soon after a clone.
$(VENV)/.stamp-demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[cli,durable]'
	touch $@

# It brings all of the demo's too.
$(VENV)/.stamp-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[all,dev]'
	touch $(VENV)/.stamp-demo $@
