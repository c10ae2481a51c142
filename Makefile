# Everything sets itself up: `make run PROMPT="..."` and `make test` need nothing but Python 3.11 or newer.
#
# The prompt travels through the environment, never through a command line, so quotes, dollars and newlines are safe.

PYTHON ?= python3
VENV := .venv
STAMPS := $(VENV)/stamps
BIN := $(VENV)/bin
# modules are compiled when they are first imported: few of them ever are
QUIETLY := --quiet --disable-pip-version-check --no-compile
KERNELS := $(wildcard mezzotint/denoisers/native/*.cpp mezzotint/denoisers/native/*.hpp mezzotint/denoisers/native/build.py)

# packages, kernels and model have nothing to do with each other
MAKEFLAGS += -j3

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
	@echo 'make setup              what all of it needs first: every package, the model, the native kernels'

setup: $(STAMPS)/packages $(STAMPS)/self $(STAMPS)/kernels $(STAMPS)/float32 $(STAMPS)/model

# ensurepip compiles all of pip, which takes longer than the packages of the default model: the pip at hand is quicker
$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mezzotint needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv --without-pip $(VENV)
	@$(PYTHON) -m pip --python $(VENV) install $(QUIETLY) pip 2>/dev/null || $(BIN)/python -m ensurepip
	@mkdir -p $(STAMPS) && touch $@

# what the default model needs; it is all of it, so nothing is left to resolve
$(STAMPS)/base: requirements-run.txt $(STAMPS)/venv
	$(BIN)/python -m pip install $(QUIETLY) --no-deps -r requirements-run.txt
	@touch $@

$(STAMPS)/self: pyproject.toml $(STAMPS)/base
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install $(QUIETLY) --no-build-isolation --no-deps -e .
	@touch $@

# by far the largest, and everything else must fit it
$(STAMPS)/torch: $(STAMPS)/self
	$(BIN)/python -m pip install --disable-pip-version-check torch==2.13.0
	@touch $@

$(STAMPS)/packages: requirements.txt $(STAMPS)/torch
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

# kernels and model need nothing but the standard library: they are made while the packages are installed
$(STAMPS)/kernels: $(KERNELS) $(STAMPS)/venv
	@rm -f $(STAMPS)/portable
	$(BIN)/python -m mezzotint.denoisers.native.build default-model || touch $(STAMPS)/portable
	@touch $@

$(STAMPS)/float32: $(KERNELS) $(STAMPS)/kernels
	$(BIN)/python -m mezzotint.denoisers.native.build float32 || echo 'going on without these kernels' >&2
	@touch $@

$(STAMPS)/model: $(STAMPS)/venv
	$(BIN)/python -m mezzotint.checkpoints
	@touch $@

# without a compiler torch answers, only slower
$(STAMPS)/run: $(STAMPS)/self $(STAMPS)/kernels $(STAMPS)/model
	@test ! -e $(STAMPS)/portable || $(MAKE) --no-print-directory $(STAMPS)/torch
	@touch $@

run: $(STAMPS)/run
	@$(BIN)/mezzotint generate -- "$$MEZZOTINT_PROMPT"

test: setup check
	$(BIN)/python -m pytest

check: $(STAMPS)/packages
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
