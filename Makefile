# make demo     the main job on an embedded origin, nothing done before
# make test     everything that CI runs
# make build    the package, editable, in .venv
# make quick    the tests without the slow ones
# make lint     ruff, mypy, cython-lint, import-linter (part of make test)
# make bench    CPU per GiB beside a C loop, pycurl and forked curl
# make docs     the user guide, as a site in build/docs
# make clean    forget everything that was built

PYTHON ?= python3
BIN := .venv/bin
SOURCES := $(wildcard src/*) CMakeLists.txt pyproject.toml

.PHONY: demo test build quick lint bench docs clean

build: .venv/built

.venv/built: .venv/ready $(SOURCES)
	@echo "== building parpull into .venv (editable)"
	$(BIN)/pip install -q --no-build-isolation --no-deps -e . -C build-dir=build/editable
	@touch $@

.venv/ready: .ci/system-packages pyproject.toml Makefile
	@.ci/system-packages $(PYTHON)
	@echo "== installing into .venv: what pyproject.toml names (dependencies, and the groups build, test, libraries, lint, docs)"
	rm -rf build/editable  # its cache belongs to the tools of the old .venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --upgrade "pip>=25.1"
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
	    > .venv/requirements.txt
	$(BIN)/pip install -q -r .venv/requirements.txt --group build --group test --group libraries --group lint --group docs
	@touch $@

demo: build
	$(BIN)/python -m bench.demo

test: lint
	$(BIN)/python -m pytest

quick: build
	$(BIN)/python -m pytest -m "not slow"

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cython-lint src
	$(BIN)/lint-imports

bench: build
	$(BIN)/python -m bench.engine

docs: build
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv build .cache dist
