# make demo     the main job on an embedded origin, nothing done before
# make test     everything that CI runs
# make build    the package, editable, in .venv
# make quick    the tests without the slow ones
# make lint     ruff, mypy, cython-lint, import-linter (part of make test)
# make bench    the scorecard beside floors and rivals, some 20 minutes; FULL=1: hours, goes on where it was
# make docs     the user guide, as a site in build/docs
# make sanitize the core's tests under ASan and UBSan
# make tsan     what has threads in it under TSan
# make fuzz     the judge and tar's blocks under libFuzzer (needs clang), then the other parsers; SECONDS=60 for each
# make soak     downloads under random faults; FAULTS=20000 SEED=1
# make wheels   a portable wheel in dist/, without docker; TARGET=manylinux-aarch64, see wheels/README.md
# make clean    forget everything that was built

PYTHON ?= python3
BIN := .venv/bin
SOURCES := $(wildcard src/*) CMakeLists.txt pyproject.toml

.PHONY: demo test build quick lint bench docs sanitize tsan fuzz soak wheels clean

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

bench: build build/bench/ready
	$(BIN)/python -m bench --plots $(if $(FULL),--full) $(BENCH)

build/bench/ready: pyproject.toml .venv/built
	@mkdir -p build/bench
	$(BIN)/pip install -q --group bench
	@touch $@

docs: build
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The core with sanitizers in it: an environment of its own that borrows the tools of .venv.
build/address/built build/thread/built: .venv/built
	@echo "== building parpull with -fsanitize=$(notdir $(@D)) into $(@D)"
	$(BIN)/python -m venv --clear --without-pip $(@D)/venv
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $(@D)/tools.pth
	mv $(@D)/tools.pth "$$($(@D)/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	PATH="$(CURDIR)/$(BIN):$$PATH" $(@D)/venv/bin/python -m pip install -q --no-build-isolation --no-deps \
	    --ignore-installed -e . -C build-dir=$(@D)/cmake -C cmake.define.PARPULL_SANITIZE=$(notdir $(@D))
	@touch $@

# CPython never frees all that it has, so leaks are left to the gate in tests/conftest.py.
# Left out are tests that measure a pace, which the sanitizers change.
ASAN = LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
    ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:abort_on_error=1:allocator_may_return_null=1:malloc_context_size=4 \
    UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
TSAN = LD_PRELOAD="$$(cc -print-file-name=libtsan.so)" TSAN_OPTIONS=exitcode=66:allocator_may_return_null=1:suppressions=tests/tsan.supp
SANITIZED = -q -p no:cacheprovider -m "not slow"
PACED = --deselect tests/test_reactor.py::test_bytes_land_while_python_holds_the_gil \
    --deselect tests/test_landing.py::test_a_ring_holds_what_it_may_not_forget

sanitize: build/address/built
	CI=1 $(ASAN) build/address/venv/bin/python -m pytest $(SANITIZED) $(PACED) tests/test_landing.py \
	    tests/test_response.py tests/test_reactor.py tests/test_engine.py tests/test_endings.py tests/test_window.py \
	    tests/test_download.py tests/test_client.py tests/test_alternatives.py tests/test_pacing.py tests/oci/test_untar.py
	CI=1 $(ASAN) build/address/venv/bin/python -m pytest $(SANITIZED) -m "slow or not slow" tests/test_scenarios.py -k memory-8-plain
	CI=1 $(ASAN) build/address/venv/bin/python -m pytest $(SANITIZED) tests/test_planner.py --deselect tests/test_planner.py::TestPlan

# Without address randomization: TSan's shadow has a place of its own.
tsan: build/thread/built
	CI=1 $(TSAN) setarch -R build/thread/venv/bin/python -m pytest $(SANITIZED) $(PACED) tests/test_landing.py \
	    tests/test_reactor.py tests/test_window.py tests/test_alternatives.py tests/test_pacing.py \
	    --deselect 'tests/test_window.py::test_reading_on_and_on_uses_many_connections_and_fetches_each_byte_once[auto]'

TARGET ?= manylinux-x86_64

wheels: build/wheels/venv/ready
	PATH="$(CURDIR)/build/wheels/venv/bin:$$PATH" build/wheels/venv/bin/python -m wheels.build --target $(TARGET)
	@case $(TARGET) in manylinux-$$(uname -m)) \
	    $(PYTHON) -m venv --clear build/wheels/fresh && \
	    build/wheels/fresh/bin/pip install -q trustme pycurl curl_cffi dist/parpull-*-abi3-manylinux*_$$(uname -m).whl && \
	    cd build/wheels && SMOKE_EXITS=200 fresh/bin/python ../../wheels/smoke.py ;; esac

build/wheels/venv/ready: pyproject.toml
	$(PYTHON) -m venv --clear build/wheels/venv
	build/wheels/venv/bin/pip install -q --upgrade "pip>=25.1"
	build/wheels/venv/bin/pip install -q --group wheels
	@touch $@

SECONDS ?= 60
FAULTS ?= 20000
SEED ?= 1
INCLUDE = $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')

# What libFuzzer has: a harness in C, and the module that it includes.
build/fuzz/judge: MODULE = _response
build/fuzz/judge: src/_response.pyx src/_response.pxd
build/fuzz/tar: MODULE = _tar
build/fuzz/tar: src/_tar.pyx src/_tar.pxd
build/fuzz/judge build/fuzz/tar: build/fuzz/%: tests/fuzz/%.c .venv/built
	@command -v clang >/dev/null || { echo "make fuzz needs clang: apt-get install clang" >&2; exit 1; }
	@mkdir -p build/fuzz/pxd build/fuzz/found build/fuzz/found-tar
	ln -sfn "$(CURDIR)/src" build/fuzz/pxd/parpull
	$(BIN)/cython -3 -X freethreading_compatible=True -X cdivision=True --module-name parpull.$(MODULE) \
	    -I build/fuzz/pxd src/$(MODULE).pyx -o build/fuzz/$(MODULE).c
	clang -g -O1 -w -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -D_GNU_SOURCE \
	    -DGENERATED='"$(MODULE).c"' -I "$(INCLUDE)" -Isrc -Ibuild/fuzz tests/fuzz/$*.c -o $@ \
	    -no-pie -Wl,--unresolved-symbols=ignore-all

fuzz: build/fuzz/judge build/fuzz/tar
	build/fuzz/judge -max_total_time=$(SECONDS) -max_len=512 -dict=tests/fuzz/judge.dict \
	    -artifact_prefix=build/fuzz/crash- -verbosity=0 -print_final_stats=1 build/fuzz/found tests/fuzz/corpus/judge
	build/fuzz/tar -max_total_time=$(SECONDS) -max_len=1024 \
	    -artifact_prefix=build/fuzz/crash-tar- -verbosity=0 -print_final_stats=1 build/fuzz/found-tar tests/fuzz/corpus/tars
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

soak: build
	$(BIN)/python -m tests.soak --faults $(FAULTS) --seed $(SEED)

clean:
	rm -rf .venv build .cache dist
