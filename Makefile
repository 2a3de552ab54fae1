# Everything here sets itself up: `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3
BIN = .venv/bin
SETUP = .venv/.setup
RING = not slow and not gpu
LINKS = splade_es/cli splade_es/training splade_es/mappings

.PHONY: help setup demo test test-all bench-gpu test-clients test-lowest browser check wheel lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(SETUP)  ## make .venv with the pinned versions of constraints.txt

$(SETUP): pyproject.toml constraints.txt | $(BIN)/uv $(LINKS)
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt --group dev \
		-e '.[aws,demo,ja,parquet,ray,serve,teacher,tensorboard]'
	@touch $(SETUP)

# An archive of the sources has none. Python does not need them; mypy and import-linter do.
$(LINKS):
	ln -s ../$(notdir $@) $@

# Without --clear: a .venv that somebody made, or that a program runs in, is added to, never emptied.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv

demo: $(SETUP)  ## train, index, search and measure on Python's documentation
	$(BIN)/splade-es demo

test: check browser test-clients  ## lint, types, the wheel, and the tests with both real servers
	$(BIN)/python -m pytest -m '$(RING)'

test-all: RING = not gpu
test-all: test  ## the same with the slow ring: older servers, long runs

# Where there is a card, every figure that depends on one: within eight minutes, also as JSON.
bench-gpu: $(SETUP)  ## measure head, encoding and training on a GPU, beside sentence-transformers
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[bench]'
	$(BIN)/python -m tests.bench.gpu --output bench-gpu.json

# constraints.txt pins version 8, which all other tests run with; here 9 comes before it on the path.
test-clients: $(SETUP)  ## the tests of Elasticsearch with version 9 of its client
	$(BIN)/uv pip install --quiet --python $(BIN)/python --upgrade --target .cache/client-9 \
		'elasticsearch>=9,<10'
	PYTHONPATH=.cache/client-9 $(BIN)/python -m pytest -m '$(RING)' \
		-k '(elasticsearch or test_clients) and not old-elasticsearch' tests/engines

# The tools of the tests come in their newest versions: they are no part of what is tried. What old
# versions say of each other (Triton's interpreter of numpy) is not heard.
test-lowest: $(SETUP)  ## the tests of the library with the lowest versions that it allows
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .cache/lowest
	$(BIN)/uv pip install --quiet --python .cache/lowest/bin/python --resolution lowest-direct \
		-e '.[aws,demo,parquet,serve,teacher]'
	$(BIN)/uv pip install --quiet --python .cache/lowest/bin/python \
		hypothesis playwright pytest sentencepiece trustme vl-convert-python
	$(BIN)/uv pip list --quiet --python .cache/lowest/bin/python
	.cache/lowest/bin/python -m pytest -W ignore::DeprecationWarning \
		tests/data tests/encoders tests/engines tests/indexing tests/inspection tests/models \
		tests/search tests/vectors

# The tests of the page skip without one; where CI is set they must not.
browser:
	@test -z "$$CI" || command -v chromium >/dev/null || \
		{ apt-get update -qq && apt-get install -qq -y chromium >/dev/null; }

check: $(SETUP) wheel  ## lint, types, imports, and the wheel in an empty environment
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --cache-dir .cache/import-linter

# `build` makes the sdist, and the wheel from it. The wheel is installed in an environment of its own,
# so that only what it holds can be imported. build and egg-info go first: setuptools would pack what
# they remember and the checkout has or lists no more.
# RECORD names the command as ../../../bin/splade-es.
wheel: $(SETUP)
	rm -rf build dist *.egg-info
	$(BIN)/python -m build --quiet --installer uv
	$(BIN)/uv venv --quiet --python $(BIN)/python build/empty
	$(BIN)/uv pip install --quiet --python build/empty/bin/python -c constraints.txt dist/*.whl
	cd build/empty && bin/splade-es --version && bin/splade-es --help >/dev/null
	build/empty/bin/python -I -m splade_es --version
	build/empty/bin/python -I -c 'from importlib.resources import files; \
		files("splade_es.mappings").joinpath("saved_objects", "dashboard.json").read_bytes(); \
		files("splade_es.training").joinpath("recipes", "splade-v3.yaml").read_bytes(); \
		files("splade_es.inspection.page").joinpath("static", "index.html").read_bytes()'
	test "$$(cut -d/ -f1 build/empty/lib/python*/site-packages/splade_es-*/RECORD | \
		sed 's/-.*//' | sort -u | xargs)" = '.. splade_es'
	rm -rf build

# Not after setup, which a conflict with the versions of before would stop.
lock: | $(BIN)/uv  ## pin the newest versions in constraints.txt
	$(BIN)/uv pip compile --universal --python-version 3.10 --all-extras --group dev --upgrade --quiet \
		--custom-compile-command 'make lock' --no-annotate pyproject.toml -o constraints.txt

clean:  ## remove what was made here
	rm -rf .venv .cache build dist *.egg-info splade-es-demo
