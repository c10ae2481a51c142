# Everything sets itself up: `make run PROMPT="..."` and `make test` need nothing but Python 3.11 or newer.
#
# The prompt travels through the environment, never through a command line, so quotes, dollars and newlines are safe.

PYTHON ?= python3
VENV := .venv
STAMPS := $(VENV)/stamps
BIN := $(VENV)/bin

ifeq ($(origin PROMPT), command line)
unexport PROMPT
endif
MEZZOTINT_PROMPT := $(value PROMPT)
ifeq ($(strip $(MEZZOTINT_PROMPT)),)
MEZZOTINT_PROMPT := What makes the sky blue, and why is it red in the evening?
endif
export MEZZOTINT_PROMPT

.DEFAULT_GOAL := help
.PHONY: help setup run test check docs clean

help:
	@echo 'make run PROMPT="..."   answer a prompt with the default model'
	@echo 'make test               every check and test'
	@echo 'make docs               the documentation, with the reference of every module, in site/'
	@echo 'make setup              what both need first: packages, the model, the native kernels'

setup: $(STAMPS)/model

$(STAMPS)/venv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mezzotint needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# first and alone: it is by far the largest, and everything else must fit it
$(STAMPS)/torch: $(STAMPS)/venv
	$(BIN)/python -m pip install --disable-pip-version-check torch==2.13.0
	@touch $@

$(STAMPS)/packages: requirements.txt $(STAMPS)/torch
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

$(STAMPS)/self: pyproject.toml $(STAMPS)/packages
	$(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# without a compiler the portable path answers, only slower
$(STAMPS)/native: $(wildcard mezzotint/denoisers/native/*.cpp mezzotint/denoisers/native/*.hpp mezzotint/denoisers/native/*.py) $(STAMPS)/self
	$(BIN)/python -m mezzotint.denoisers.native.build || echo 'the native kernels could not be built: going on without them' >&2
	@touch $@

$(STAMPS)/model: $(STAMPS)/native
	$(BIN)/mezzotint models pull
	@touch $@

run: setup
	@$(BIN)/mezzotint generate -- "$$MEZZOTINT_PROMPT"

test: setup check
	$(BIN)/python -m pytest

check: $(STAMPS)/self
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python scripts/budgets.py

# the reference is read from the sources, so this needs neither torch nor the package itself
$(VENV)/docs/stamp: requirements-docs.txt
	$(PYTHON) -m venv $(VENV)/docs
	$(VENV)/docs/bin/python -m pip install --disable-pip-version-check --quiet -r requirements-docs.txt
	@touch $@

# strict: a link or an anchor that leads nowhere, and a docstring that names no parameter of its function, stop it
docs: $(VENV)/docs/stamp
	PATH="$(CURDIR)/$(VENV)/docs/bin:$$PATH" NO_MKDOCS_2_WARNING=1 mkdocs build --quiet
	@echo 'open site/index.html, or for the search: python3 -m http.server -d site'

clean:
	rm -rf $(VENV) site
