# Everything here sets itself up: `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3
BIN = .venv/bin
SETUP = .venv/.setup

.PHONY: help setup demo test test-all browser check wheel lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(SETUP)  ## make .venv with the pinned versions of constraints.txt

$(SETUP): pyproject.toml constraints.txt | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $(SETUP)

# Without --clear: a .venv that somebody made, or that a program runs in, is added to, never emptied.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv

demo: $(SETUP)  ## train, index, search and measure on Python's documentation
	$(BIN)/splade-es demo

test: check browser  ## lint, types, the wheel, and the tests with both real servers
	$(BIN)/python -m pytest

test-all: check browser  ## the same with the slow ring: older servers, long runs
	$(BIN)/python -m pytest -m 'slow or not slow'

# The tests of the page skip without one; where CI is set they must not.
browser:
	@test -z "$$CI" || command -v chromium >/dev/null || \
		{ apt-get update -qq && apt-get install -qq -y chromium >/dev/null; }

check: $(SETUP) wheel  ## lint, types, and the wheel in an empty environment
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# In an environment of its own, so that only what the wheel holds can be imported. build and egg-info
# go first: setuptools would pack what they remember and the checkout has or lists no more.
# RECORD names the command as ../../../bin/splade-es.
wheel: $(SETUP)
	rm -rf build dist *.egg-info
	$(BIN)/python -m build --quiet --wheel --installer uv
	$(BIN)/uv venv --quiet --python $(BIN)/python build/empty
	$(BIN)/uv pip install --quiet --python build/empty/bin/python -c constraints.txt dist/*.whl
	cd build/empty && bin/splade-es --version && bin/splade-es --help >/dev/null
	build/empty/bin/python -I -c 'from importlib.resources import files; \
		files("splade_es.mappings").joinpath("saved_objects", "dashboard.json").read_bytes(); \
		files("splade_es.page").joinpath("static", "index.html").read_bytes()'
	test "$$(cut -d/ -f1 build/empty/lib/python*/site-packages/splade_es-*/RECORD | \
		sed 's/-.*//' | sort -u | xargs)" = '.. splade_es'
	rm -rf build

# Not after setup, which a conflict with the versions of before would stop.
lock: | $(BIN)/uv  ## pin the newest versions in constraints.txt
	$(BIN)/uv pip compile --universal --python-version 3.10 --all-extras --upgrade --quiet \
		--custom-compile-command 'make lock' --no-annotate pyproject.toml -o constraints.txt

clean:  ## remove what was made here
	rm -rf .venv .cache build dist *.egg-info splade-es-demo
