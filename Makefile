# The front door of myserver. `make help` lists what it can do.
#
#   PYTHON=python3.13 make      against another interpreter (CPython >= 3.11, shared library)
#   FLAVOUR=asan make           release (default), asan or tsan
#   CC=clang make               another compiler; WERROR= for one with new warnings
#   V=1 make                    shows the commands
#   LLHTTP_DIR=~/llhttp-9 make  an unpacked release of llhttp instead of the system's
#
# Each flavour and interpreter has its own directory under build/; build/myserver is a link to the
# program of the last `make`. Targets that may run on a bare machine (help, deps, test, run) need no
# Python to be read: they install what is missing first and then call make again.

PYTHON  ?= python3
FLAVOUR ?= release
PREFIX  ?= /usr/local
DESTDIR ?=
WERROR  ?= -Werror
FUZZ_S  ?= 60
SOAK_S  ?= 600
LLHTTP_DIR ?=
T       ?=

VERSION := 0.1.0
JOBS    := -j$(shell nproc)
AGAIN   := $(MAKE) --no-print-directory
# Says what is made instead of how.
Q       := $(if $(V),,@)
SAY     := $(if $(V),@:,@printf '  %-4s %s\n')

ifeq ($(origin CC),default)
CC := gcc
endif

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:

## ---------------------------------------------------------------- the interpreter

BARE_GOALS := help clean deps deps-build deps-test apt-lists bench bench-deps locust test run asan tsan test-pythons format
ifneq ($(filter-out $(BARE_GOALS),$(or $(MAKECMDGOALS),all)),)

define PYTHON_FACTS_SOURCE
import os, sys, sysconfig; \
get = sysconfig.get_config_var; \
libdir, library = get("LIBDIR"), get("LDLIBRARY"); \
ok = sys.version_info >= (3, 11) and sys.implementation.name == "cpython"; \
shared = get("Py_ENABLE_SHARED") and os.path.exists(os.path.join(libdir, library)); \
header = os.path.exists(os.path.join(get("INCLUDEPY"), "Python.h")); \
print("%d.%d.%d" % sys.version_info[:3], sys.abiflags or "-", get("INCLUDEPY"), libdir, \
      "python" + get("LDVERSION"), get("MULTIARCH") or "-", \
      "ok" if ok and shared and header else \
      "old" if not ok else "static" if not shared else "headerless", \
      os.path.realpath(sys._base_executable))
endef
PYTHON_FACTS := $(shell $(PYTHON) -c '$(PYTHON_FACTS_SOURCE)')
PY_VERSION   := $(word 1,$(PYTHON_FACTS))
PY_KEY       := $(PY_VERSION)$(filter-out -,$(word 2,$(PYTHON_FACTS)))
PY_INCLUDE   := $(word 3,$(PYTHON_FACTS))
PY_LIBDIR    := $(word 4,$(PYTHON_FACTS))
PY_LIBRARY   := $(word 5,$(PYTHON_FACTS))
PY_MULTIARCH := $(word 6,$(PYTHON_FACTS))
PY_STATE     := $(word 7,$(PYTHON_FACTS))
PY_PROGRAM   := $(word 8,$(PYTHON_FACTS))

ifeq ($(PY_STATE),)
$(error PYTHON=$(PYTHON) cannot be run; install it (`make deps`) or name another one)
else ifeq ($(PY_STATE),old)
$(error PYTHON=$(PYTHON) is $(PY_VERSION); CPython 3.11 or newer is needed)
else ifeq ($(PY_STATE),static)
$(error PYTHON=$(PYTHON) ($(PY_VERSION)) has no shared libpython in $(PY_LIBDIR); install its development \
package (`make deps` for the system's) or build it with --enable-shared)
else ifeq ($(PY_STATE),headerless)
$(error PYTHON=$(PYTHON) ($(PY_VERSION)) has no Python.h in $(PY_INCLUDE); `make deps` installs the system's)
endif

# The dynamic linker already looks into these.
SYSTEM_LIBDIRS := /lib /usr/lib /usr/local/lib /lib/$(PY_MULTIARCH) /usr/lib/$(PY_MULTIARCH)
PY_RPATH       := $(if $(filter $(PY_LIBDIR),$(SYSTEM_LIBDIRS)),,-Wl,-rpath,$(PY_LIBDIR))

endif

VENV  := .venv$(if $(filter-out python3,$(PYTHON)),-$(PY_KEY))
BUILD := build/$(FLAVOUR)-$(PY_KEY)$(if $(LLHTTP_DIR),-llhttp)
BIN   := $(BUILD)/myserver

## ---------------------------------------------------------------- flags

comma := ,
# -fcf-protection exists for x86 only.
IS_X86    := $(filter x86_64,$(shell uname -m))
HARDENING := -fstack-protector-strong $(if $(IS_X86),-fcf-protection)
# Debian's crt1.o does not say that it can do it, and would take the mark from the whole program.
CET_MARKS := $(if $(IS_X86),-Wl$(comma)-z$(comma)ibt$(comma)-z$(comma)shstk)

# Of clang the linker needs a plugin for link-time optimization that not every machine has.
LTO := $(if $(findstring clang,$(CC)),,-flto=auto)

# -O3 and LTO: 7 % fewer instructions for a request of hello than -O2 without. A profile
# (-fprofile-use) changes that by -2 to +2 %, as what it was trained with: not worth a second build.
FLAGS_release := -O3 $(LTO) -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 $(HARDENING)
FLAGS_asan    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
                 -fno-sanitize-recover=undefined
FLAGS_tsan    := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
FLAGS_fuzz    := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
                 -fno-sanitize-recover=undefined
FLAVOUR_FLAGS := $(FLAGS_$(FLAVOUR))
ifeq ($(FLAVOUR_FLAGS),)
$(error FLAVOUR=$(FLAVOUR) is none of release, asan, tsan)
endif

# llhttp: LLHTTP_DIR=, an unpacked release of it; else the system's library; else Debian's
# node-llhttp, which is its C source. 8.1.0 is strict by this define only; 9 ignores it.
ifneq ($(LLHTTP_DIR),)
LLHTTP_CFLAGS  := -isystem $(LLHTTP_DIR) -isystem $(LLHTTP_DIR)/include -DLLHTTP_STRICT_MODE=1
LLHTTP_LIBS    :=
LLHTTP_SOURCES := $(or $(wildcard $(LLHTTP_DIR)/*.c),$(wildcard $(LLHTTP_DIR)/src/*.c))
else ifeq ($(shell pkg-config --exists libllhttp 2>/dev/null && echo yes),yes)
LLHTTP_CFLAGS  := $(shell pkg-config --cflags libllhttp)
LLHTTP_LIBS    := $(shell pkg-config --libs libllhttp)
LLHTTP_SOURCES :=
else
LLHTTP_CFLAGS  := -isystem /usr/share/include/llhttp -DLLHTTP_STRICT_MODE=1
LLHTTP_LIBS    :=
LLHTTP_SOURCES := $(wildcard /usr/share/llhttp/*.c)
endif

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(WERROR)
DEFINES  := -D_GNU_SOURCE -DMYSERVER_VERSION='"$(VERSION)"' -DMYSERVER_PYTHON='"$(PY_VERSION)"' \
            -DMYSERVER_PYTHON_EXECUTABLE='"$(PY_PROGRAM)"'
BASE_CFLAGS := -std=gnu17 -fPIE -iquote include -iquote src -isystem $(PY_INCLUDE) $(LLHTTP_CFLAGS) $(DEFINES)
ALL_CFLAGS  := $(BASE_CFLAGS) $(WARNINGS) $(FLAVOUR_FLAGS) $(CFLAGS)
# Exported, so that libpython calls ours: see src/python/gil.c.
ALL_LDFLAGS := -pie -Wl,--export-dynamic-symbol=pthread_cond_timedwait -Wl,-z,relro,-z,now $(CET_MARKS) $(FLAVOUR_FLAGS) \
               $(LDFLAGS)
LIBS        := -L$(PY_LIBDIR) $(PY_RPATH) -l$(PY_LIBRARY) -lev -linih $(LLHTTP_LIBS) \
               -lpthread -ldl -lm

## ---------------------------------------------------------------- the program

SOURCES      := $(wildcard src/*.c src/*/*.c src/*/*/*.c)
HEADERS      := $(wildcard include/*.h include/*/*.h src/*/*.h src/*/*/*.h)
UNIT_SOURCES := $(wildcard tests/unit/test_*.c)
FUZZ_SOURCES := $(wildcard tests/fuzz/fuzz_*.c)
OBJECTS      := $(SOURCES:src/%.c=$(BUILD)/%.o) \
                $(patsubst %.c,$(BUILD)/llhttp/%.o,$(notdir $(LLHTTP_SOURCES)))

.PHONY: all
all: $(BIN) ## build the program: build/myserver
	@$(if $(filter release,$(FLAVOUR)),ln -sfn $(BIN:build/%=%) build/myserver)

$(BIN): $(OBJECTS) $(BUILD)/flags
	$(SAY) LD $@
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(OBJECTS) $(LIBS)

$(BUILD)/%.o: src/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(SAY) CC $<
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/llhttp/%.o: $(dir $(firstword $(LLHTTP_SOURCES)))%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(SAY) CC $<
	$(Q)$(CC) -std=gnu17 -fPIE -w $(LLHTTP_CFLAGS) $(FLAVOUR_FLAGS) -c -o $@ $<

# Changes when the compiler, a flag or the interpreter does: everything is then built anew.
$(BUILD)/flags: FORCE
	@$(if $(LLHTTP_SOURCES)$(LLHTTP_LIBS),,$(error llhttp is missing; `make deps` installs it))
	@mkdir -p $(BUILD)/unit
	@printf '%s\n' "$(subst ",,$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(LIBS))" >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

.PHONY: FORCE
FORCE:

-include $(wildcard $(BUILD)/*.d $(BUILD)/*/*.d $(BUILD)/*/*/*.d)

## ---------------------------------------------------------------- tests

UNIT_BINS := $(UNIT_SOURCES:tests/unit/%.c=$(BUILD)/unit/%)
TEST_ENV  := MYSERVER_BIN=$(CURDIR)/$(BIN) MYSERVER_FLAVOUR=$(FLAVOUR) \
             MYSERVER_VENV=$(CURDIR)/$(VENV)

# A unit test includes the .c it tests; of the others the linker takes from the archive what is
# used, so that a test of the lower layers needs no loop and no Python.
$(BUILD)/parts.a: $(filter-out $(BUILD)/main.o,$(OBJECTS))
	@rm -f $@
	@$(if $(LTO),gcc-ar,ar) rcs $@ $^

# What tests/test_reference.py compares with its model.
RESULTS_BIN := $(BUILD)/unit/http_results
$(RESULTS_BIN): tests/tools/http_results.c $(BUILD)/parts.a $(BUILD)/flags
	$(SAY) LD $@
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< $(BUILD)/parts.a -linih $(LLHTTP_LIBS) -lpthread

$(BUILD)/unit/%: tests/unit/%.c $(BUILD)/parts.a $(BUILD)/flags
	$(SAY) LD $@
	$(Q)$(CC) $(ALL_CFLAGS) -iquote src -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(BUILD)/parts.a \
	    -lcmocka -linih $(LLHTTP_LIBS) -lpthread

.PHONY: unit
unit: $(UNIT_BINS) ## build and run the C unit tests; T=name for some
	@for test in $(foreach t,$(UNIT_BINS),$(if $(T),$(if $(findstring $(T),$(notdir $t)),$t),$t)); do \
	    echo "$$test"; "$$test" || exit 1; \
	done

.PHONY: venv
venv: $(VENV)/installed-$(PY_KEY) ## the virtualenv of tests and shop, from requirements-dev.txt
$(VENV)/installed-$(PY_KEY): requirements-dev.txt
	test -e $@ || $(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# The tests mostly wait, so that some run at once: PYTEST_ARGS=-n0 for one after the other.
TEST_JOBS  = $(shell nproc | awk '{ print ($$1 < 4 ? $$1 : 4) }')
# pytest's status 5 is "no test has that name": then it was the name of a unit test.
.PHONY: pytest
pytest: $(BIN) $(BUILD)/unit/http_results venv ## run the tests of the built program; T=name for some
	@status=0; $(TEST_ENV) $(VENV)/bin/python -m pytest tests -n $(TEST_JOBS) --dist worksteal \
	    $(if $(T),-k '$(T)') $(PYTEST_ARGS) || status=$$?; \
	$(if $(T),test $$status -ne 5 || status=0;) exit $$status

.PHONY: test-installed
test-installed: $(BIN)
	$(AGAIN) $(JOBS) $(UNIT_BINS)
	$(AGAIN) unit
	$(AGAIN) pytest

# llhttp 9, as aiohttp ships its C source. The parser must decide alike on it and on Debian's 8.
LLHTTP_9 := $(CURDIR)/$(VENV)/llhttp-9
$(LLHTTP_9)/llhttp.h: requirements-llhttp.txt $(VENV)/installed-$(PY_KEY)
	@rm -rf $(LLHTTP_9) && mkdir -p $(LLHTTP_9)
	$(VENV)/bin/python -m pip download --quiet --disable-pip-version-check --no-deps \
	    --no-binary :all: -d $(LLHTTP_9) -r requirements-llhttp.txt
	@tar -xzf $(LLHTTP_9)/aiohttp-*.tar.gz -C $(LLHTTP_9) --transform='s|.*/||' --wildcards \
	    '*/vendor/llhttp/build/*.[ch]' '*/vendor/llhttp/src/native/*.[ch]'
	@touch $@

.PHONY: test-llhttp9
test-llhttp9: $(LLHTTP_9)/llhttp.h ## the tests of the parser, on llhttp 9 instead of the system's
	$(AGAIN) LLHTTP_DIR=$(LLHTTP_9) $(JOBS) unit T=test_http
	$(AGAIN) LLHTTP_DIR=$(LLHTTP_9) $(JOBS) pytest T='test_requests or test_reference'

.PHONY: test
test: ## install what is missing, build, run every test; T=name for some
	$(AGAIN) deps-test
	$(AGAIN) $(JOBS) all
	$(AGAIN) test-installed
	$(if $(T),,$(AGAIN) test-llhttp9)

.PHONY: asan tsan
asan tsan: ## build with ASan and UBSan (tsan: ThreadSanitizer) and run every test with it
	$(AGAIN) deps-test
	$(AGAIN) FLAVOUR=$@ $(JOBS) test-installed

.PHONY: test-pythons
test-pythons: ## run every test for each usable CPython found on the machine
	$(AGAIN) deps-test
	@for python in $$(python3 tests/tools/find_pythons.py); do \
	    echo "== $$python"; $(AGAIN) PYTHON="$$python" $(JOBS) test-installed || exit 1; \
	done

.PHONY: soak
soak: $(BIN) venv ## deploys, then SOAK_S=600 seconds of chaos under load; every request accounted for
	$(TEST_ENV) $(VENV)/bin/python tests/tools/deploys.py $(SOAK_ARGS)
	$(TEST_ENV) $(VENV)/bin/python tests/tools/deploys.py --shop $(SOAK_ARGS)
	$(TEST_ENV) $(VENV)/bin/python tests/tools/soak.py --seconds $(SOAK_S)

# The unit tests of what reads foreign bytes, then raw requests, the protocol of applications, and some
# lives of workers, over a socket. No immortal objects:
# valgrind must see each freed.
MEMCHECK := valgrind --quiet --suppressions=$(CURDIR)/tests/tools/valgrind.supp --error-exitcode=99
LIFECYCLE := hooks_and_threads or sys_exit or slow_request_survives or new_settings or term_finishes \
             or reload_waits or loses_no_request or killed_worker or ttin_and
CHECKED  := access body buf config forwarded http log options proxy response
.PHONY: valgrind
valgrind: $(BIN) $(CHECKED:%=$(BUILD)/unit/test_%) venv ## the protocol's tests under valgrind
	for test in $(CHECKED); do \
	    $(MEMCHECK) --leak-check=full $(BUILD)/unit/test_$$test || exit 1; \
	done
	@mkdir -p $(BUILD)/valgrind
	@printf '#!/bin/sh\nexport PYTHONMALLOC=malloc\nexec %s %s --no-immortal "$$@"\n' \
	    '$(MEMCHECK)' '$(CURDIR)/$(BIN)' >$(BUILD)/valgrind/myserver
	@chmod +x $(BUILD)/valgrind/myserver
	$(TEST_ENV) MYSERVER_BIN=$(CURDIR)/$(BUILD)/valgrind/myserver MYSERVER_FLAVOUR=tsan \
	    $(VENV)/bin/python -m pytest tests/test_requests.py tests/test_wsgi.py
	$(TEST_ENV) MYSERVER_BIN=$(CURDIR)/$(BUILD)/valgrind/myserver MYSERVER_FLAVOUR=tsan \
	    $(VENV)/bin/python -m pytest tests/test_shutdown.py tests/test_reload.py tests/test_master.py \
	    -k '$(LIFECYCLE)'

# The corpus grows in build/fuzz and starts from the raw requests of the tests.
.PHONY: fuzz fuzz-run
fuzz: ## fuzz all that reads foreign bytes, FUZZ_S=60 seconds each
	$(AGAIN) CC=clang FLAVOUR=fuzz $(JOBS) fuzz-run
	MYSERVER_DIFFERENTIAL=$$(($(FUZZ_S) * 3000)) $(AGAIN) pytest T=test_differential

fuzz-run: $(FUZZ_SOURCES:tests/fuzz/%.c=$(BUILD)/%.run)
$(BUILD)/%.run: $(BUILD)/%.fuzz FORCE
	@mkdir -p build/fuzz/$*
	$< -max_total_time=$(FUZZ_S) -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
	    -artifact_prefix=build/fuzz/$*- $(addprefix -dict=,$(wildcard tests/fuzz/$*.dict)) \
	    build/fuzz/$* tests/requests
$(BUILD)/%.fuzz: tests/fuzz/%.c $(BUILD)/parts.a $(BUILD)/flags
	$(CC) $(ALL_CFLAGS) -iquote src $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $< $(BUILD)/parts.a -linih \
	    $(LLHTTP_LIBS) -lpthread

## ---------------------------------------------------------------- benchmarks

DEPS_BENCH = wrk nginx-light postgresql apache2-dev apache2-bin libpcre2-dev valgrind
HOST      ?= http://127.0.0.1:8000

.PHONY: bench bench-deps instructions locust
bench-deps: apt-lists
	@$(call install_missing,$(DEPS_BUILD) $(DEPS_BENCH))
bench: bench-deps ## measure beside other servers, under 30 minutes; QUICK=1: about 5
	$(AGAIN) $(JOBS) all
	$(PYTHON) benchmarks/run.py all $(if $(QUICK),--quick) $(BENCH_ARGS)
	$(AGAIN) instructions
instructions: $(BIN) ## count the instructions of a request, and fail when there are more than there were
	$(PYTHON) benchmarks/instructions.py --program $(BIN) --check
locust: ## watch the requests of the benchmarks: HOST=http://127.0.0.1:8000
	$(PYTHON) benchmarks/install.py
	.venv-bench/bin/locust -f benchmarks/locustfile.py --host $(HOST)

## ---------------------------------------------------------------- lint

C_FILES  := $(SOURCES) $(HEADERS) $(UNIT_SOURCES) $(FUZZ_SOURCES) $(wildcard tests/tools/*.c)
TIDY_OK  := $(SOURCES:src/%.c=$(BUILD)/tidy/%.ok)
DOCS_ini := conf/myserver.ini
DOCS_md  := conf/OPTIONS.md
DOCS_man := conf/myserver.1

.PHONY: lint
lint: lint-format lint-layers lint-headers lint-docs lint-clang lint-cppcheck lint-analyzer lint-tidy \
      lint-bandit ## all static checks

.PHONY: format lint-format
format: ## format the C sources
	clang-format -i $(C_FILES)
lint-format:
	clang-format --dry-run -Werror $(C_FILES)

.PHONY: lint-layers
lint-layers:
	$(PYTHON) tests/tools/check_layers.py
	$(PYTHON) tests/tools/check_functions.py

# Every header is complete in itself.
.PHONY: lint-headers
lint-headers:
	@for header in $(HEADERS); do \
	    $(CC) $(BASE_CFLAGS) $(WARNINGS) -fsyntax-only -x c "$$header" || exit 1; \
	done

.PHONY: docs lint-docs
docs: $(BIN) ## write the sample ini, the reference page and the manual page from the option table
	@$(foreach kind,ini md man,$(BIN) --options=$(kind) >$(DOCS_$(kind)) &&) true
lint-docs: $(BIN)
	@for pair in ini:$(DOCS_ini) md:$(DOCS_md) man:$(DOCS_man); do \
	    $(BIN) --options="$${pair%%:*}" | cmp - "$${pair#*:}" \
	        || { echo "$${pair#*:} is stale: run make docs"; exit 1; }; \
	done

# The second compiler finds other things. -O2: some warnings need the optimizer's analysis.
.PHONY: lint-clang
lint-clang:
	@for source in $(SOURCES); do \
	    clang $(BASE_CFLAGS) $(WARNINGS) -O2 -fsyntax-only "$$source" || exit 1; \
	done

# missingReturn: it takes the macros that open Python's functions for ends without a value.
# ctuuninitvar: it takes what a callee fills through a pointer for read before.
.PHONY: lint-cppcheck
lint-cppcheck:
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
	    --error-exitcode=1 --suppress=missingIncludeSystem --suppress=missingReturn \
	    --suppress=ctuuninitvar \
	    -I include -I src $(DEFINES) $(filter -D%,$(LLHTTP_CFLAGS)) src

# The file that fills the heap on purpose.
NOT_ANALYZED_holes := -Wno-analyzer-malloc-leak
.PHONY: lint-analyzer
lint-analyzer: $(SOURCES:src/%.c=$(BUILD)/analyzed/%.ok)
$(BUILD)/analyzed/%.ok: src/%.c $(HEADERS)
	@mkdir -p $(@D)
	gcc $(BASE_CFLAGS) -O2 -fanalyzer $(WERROR) $(NOT_ANALYZED_$*) -c -o /dev/null $<
	@touch $@

.PHONY: lint-bandit
lint-bandit: venv
	$(VENV)/bin/python -m bandit --quiet --recursive python

.PHONY: lint-tidy
lint-tidy: $(TIDY_OK)
$(BUILD)/tidy/%.ok: src/%.c $(HEADERS) .clang-tidy
	@mkdir -p $(@D)
	clang-tidy --quiet $< -- $(BASE_CFLAGS) -Wall -Wextra 2>$@.err || { cat $@.err; exit 1; }
	@touch $@

## ---------------------------------------------------------------- the rest

SHARE := $(DESTDIR)$(PREFIX)/share
.PHONY: install
install: $(BIN) ## install below PREFIX=/usr/local (DESTDIR= for packagers)
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/myserver
	install -D -m 644 $(DOCS_man) $(SHARE)/man/man1/myserver.1
	install -D -m 644 $(DOCS_ini) $(SHARE)/doc/myserver/myserver.ini
	install -D -m 644 $(DOCS_md) $(SHARE)/doc/myserver/OPTIONS.md
	cd python && find myserver -name __pycache__ -prune -o -type f -exec \
	    install -D -m 644 '{}' '$(DESTDIR)$(PREFIX)/lib/myserver/python/{}' \;

.PHONY: run
run: ## install what is missing, build, prepare the shop and serve it on 127.0.0.1:8000
	$(AGAIN) deps-build
	$(AGAIN) $(JOBS) all
	$(AGAIN) run-installed

.PHONY: run-installed
run-installed: all venv
	$(VENV)/bin/python shop/manage.py migrate --verbosity 0
	$(VENV)/bin/python shop/manage.py populate
	exec build/myserver -c conf/dev.ini --virtualenv $(VENV)

# Where Debian has llhttp as a library, that one.
DEPS_BUILD = build-essential pkg-config python3-dev python3-venv libev-dev libinih-dev \
             $(or $(shell apt-cache pkgnames libllhttp-dev 2>/dev/null),node-llhttp)
DEPS_TEST  = libcmocka-dev clang clang-format clang-tidy cppcheck nginx-light haproxy valgrind strace curl wrk \
             apache2-utils postgresql locales \
             $(shell apt-cache depends clang 2>/dev/null | sed -n 's/.*: clang-\([0-9]*\)$$/libclang-rt-\1-dev/p')

.PHONY: deps deps-build deps-test apt-lists
deps: deps-test ## install the Debian packages that are missing (deps-build: only those `make` needs)
deps-build: apt-lists
	@$(call install_missing,$(DEPS_BUILD))
deps-test: apt-lists
	@$(call install_missing,$(DEPS_BUILD) $(DEPS_TEST))

# The names of two packages depend on the release: a bare machine has to learn them first.
apt-lists:
	@command -v apt-get >/dev/null || exit 0; apt-cache show clang >/dev/null 2>&1 \
	    || $(AS_ROOT) apt-get update -q

AS_ROOT := $(if $(filter-out 0,$(shell id -u)),sudo)

define install_missing
missing=; for package in $(1); do \
    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' \
        || missing="$$missing $$package"; \
done; \
test -n "$$missing" || exit 0; \
command -v apt-get >/dev/null || { echo "Install these, or what they are called here:$$missing"; exit 1; }; \
echo "Installing with apt-get:$$missing"; \
$(AS_ROOT) apt-get update -q; \
$(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing
endef

compile_commands.json: $(SOURCES) Makefile ## for editors and clang tools
	@{ sep='['; for source in $(SOURCES); do \
	    printf '%s\n{"directory": "%s", "file": "%s", "command": "%s"}' "$$sep" '$(CURDIR)' "$$source" \
	        '$(subst ",\\\",$(CC) $(ALL_CFLAGS)) -c '"$$source"; sep=,; \
	done; printf '\n]\n'; } >$@

.PHONY: clean
clean: ## remove everything that was built
	rm -rf build compile_commands.json

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z][a-z_. -]*\):[^#]*## \(.*\)/\1|\2/p' Makefile \
	    | while IFS='|' read -r target text; do printf '  %-22s %s\n' "$$target" "$$text"; done
