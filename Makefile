# The front door of myserver. `make help` lists what it can do.
#
#   PYTHON=python3.13 make      against another interpreter (CPython >= 3.11, shared library)
#   FLAVOUR=asan make           release (default), asan, tsan; traced notes each function entered
#   CC=clang make               another compiler
#   WERROR=-Werror make         warnings end the build, as they end `make lint`
#   V=1 make                    shows the commands
#   LLHTTP_DIR=~/llhttp-9 make  an unpacked release of llhttp instead of the system's; also
#                               LIBEV_DIR= and INIH_DIR=, where the system has no static library;
#                               an sdist has all three in vendor/
#
# The program is two files: `myserver`, which finds Python and is not linked with it, and beside it
# `engine-3.X.so`, the rest, for one version of Python. Each flavour and interpreter has its own
# directory under build/; build/myserver is a link to the program of the last `make`. Targets that may run on a bare machine (help, deps, test, run) need no
# Python to be read: they install what is missing first and then call make again.

PYTHON  ?= python3
FLAVOUR ?= release
PREFIX  ?= /usr/local
DESTDIR ?=
WERROR  ?=
FUZZ_S  ?= 60
SOAK_S  ?= 600
LLHTTP_DIR ?= $(wildcard vendor/llhttp)
LIBEV_DIR  ?= $(wildcard vendor/libev)
INIH_DIR   ?= $(wildcard vendor/inih)
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

BARE_GOALS := help clean deps deps-build deps-test apt-lists bench bench-deps locust test run asan tsan test-pythons \
              test-debian test-wheels test-deb test-matrix deb format
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
      "free" if "t" in sys.abiflags else \
      "musl" if "musl" in (get("HOST_GNU_TYPE") or "") else \
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
else ifeq ($(PY_STATE),free)
$(error PYTHON=$(PYTHON) is free-threaded, which is not supported yet; use the usual build of $(PY_VERSION))
else ifeq ($(PY_STATE),musl)
$(error PYTHON=$(PYTHON) is linked with musl, as in Alpine; myserver needs glibc: use another image, such as python:$(basename $(PY_VERSION))-slim)
else ifeq ($(PY_STATE),old)
$(error PYTHON=$(PYTHON) is $(PY_VERSION); CPython 3.11 or newer is needed)
else ifeq ($(PY_STATE),static)
$(error PYTHON=$(PYTHON) ($(PY_VERSION)) has no shared libpython in $(PY_LIBDIR); install its development \
package (`make deps` for the system's) or build it with --enable-shared)
else ifeq ($(PY_STATE),headerless)
$(error PYTHON=$(PYTHON) ($(PY_VERSION)) has no Python.h in $(PY_INCLUDE); `make deps` installs the system's)
endif

PY_MINOR := $(basename $(PY_VERSION))
endif

VENV  := .venv$(if $(filter-out python3,$(PYTHON)),-$(PY_KEY))
BUILD := build/$(FLAVOUR)-$(PY_KEY)$(if $(LLHTTP_DIR),-llhttp)
BIN   := $(BUILD)/myserver
ENGINE := $(BUILD)/engine-$(PY_MINOR).so

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
# -fno-plt: 2 % fewer, because all of Python is called from a library.
FLAGS_release := -O3 $(LTO) -fno-plt -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 $(HARDENING)
FLAGS_asan    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
                 -fno-sanitize-recover=undefined
FLAGS_tsan    := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
FLAGS_fuzz    := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
                 -fno-sanitize-recover=undefined
FLAGS_traced  := -O0 -g -finstrument-functions
FLAVOUR_FLAGS := $(FLAGS_$(FLAVOUR))
ifeq ($(FLAVOUR_FLAGS),)
$(error FLAVOUR=$(FLAVOUR) is none of release, asan, tsan, traced)
endif

# The libraries are linked statically, and nothing of them is visible (src/launcher/engine.map): an extension
# that brings its own libev (gevent) or llhttp would bind to ours, and crash. Each comes from an unpacked release
# (LLHTTP_DIR= and so on), else from the system's static library.
static_library = $(firstword $(wildcard /usr/local/lib/lib$(1).a) \
                 $(filter /%,$(shell $(CC) -print-file-name=lib$(1).a)))
ifneq ($(LIBEV_DIR),)
LIBEV_CFLAGS := -isystem $(LIBEV_DIR)
LIBEV        := $(BUILD)/libev/ev.o
else
LIBEV_ARCHIVE := $(call static_library,ev)
LIBEV         := $(if $(LIBEV_ARCHIVE),$(BUILD)/libev/ev.o)
endif
ifneq ($(INIH_DIR),)
INIH_CFLAGS  := -isystem $(INIH_DIR)
INIH         := $(BUILD)/inih/ini.o
else
INIH         := $(call static_library,inih)
endif
# llhttp also from Debian's node-llhttp, which is its C source. 8.1.0 is strict by this define only;
# 9 ignores it.
ifneq ($(LLHTTP_DIR),)
LLHTTP_CFLAGS  := -isystem $(LLHTTP_DIR) -isystem $(LLHTTP_DIR)/include -DLLHTTP_STRICT_MODE=1
LLHTTP_SOURCES := $(or $(wildcard $(LLHTTP_DIR)/*.c),$(wildcard $(LLHTTP_DIR)/src/*.c))
else ifneq ($(call static_library,llhttp),)
LLHTTP_LIBRARY := $(call static_library,llhttp)
else
LLHTTP_CFLAGS  := -isystem /usr/share/include/llhttp -DLLHTTP_STRICT_MODE=1
LLHTTP_SOURCES := $(wildcard /usr/share/llhttp/*.c)
endif
LLHTTP := $(or $(LLHTTP_LIBRARY),$(patsubst %.c,$(BUILD)/llhttp/%.o,$(notdir $(LLHTTP_SOURCES))))

ENGINE_LLHTTP := $(if $(LLHTTP_LIBRARY),$(BUILD)/llhttp/llhttp.o,$(LLHTTP))

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
            -Werror=implicit-function-declaration $(WERROR)
STRICT   := $(WARNINGS) -Werror
DEFINES  := -D_GNU_SOURCE -DMYSERVER_VERSION='"$(VERSION)"' -DMYSERVER_PYTHON='"$(PY_MINOR)"' \
            -DMYSERVER_PYTHON_EXECUTABLE='"$(PY_PROGRAM)"' \
            -DMYSERVER_MULTIARCH='"$(PY_MULTIARCH)"'
# The engine is loaded at the start, when the room for thread-local variables of libraries that come
# late is still free: so each of ours is one instruction away.
BASE_CFLAGS := -std=gnu17 -fPIC -ftls-model=initial-exec -fvisibility=hidden -iquote include -isystem $(PY_INCLUDE) \
               $(LIBEV_CFLAGS) $(INIH_CFLAGS) $(LLHTTP_CFLAGS) $(DEFINES)
ALL_CFLAGS  := $(BASE_CFLAGS) $(WARNINGS) $(FLAVOUR_FLAGS) $(CFLAGS)
LINK_FLAGS := -Wl,-z,relro,-z,now $(CET_MARKS) $(FLAVOUR_FLAGS) $(LDFLAGS)
# Exported, so that libpython calls ours: see src/launcher/timedwait.h.
ALL_LDFLAGS := -pie -Wl,--export-dynamic-symbol=pthread_cond_timedwait $(LINK_FLAGS)
PARTS_LIBS  := $(INIH) $(LLHTTP) -lpthread
# libpython is not among them: the launcher loads it.
LIBS        := $(LIBEV) $(INIH) $(ENGINE_LLHTTP) -lpthread -ldl -lm

## ---------------------------------------------------------------- the program

SOURCES      := $(wildcard src/*.c src/*/*.c src/*/*/*.c)
HEADERS      := $(wildcard include/*/*.h include/*/*/*.h src/*/*.h src/*/*/*.h)
UNIT_SOURCES := $(wildcard tests/unit/*/test_*.c)
FUZZ_SOURCES := $(wildcard tests/fuzz/fuzz_*.c)
UNIT_BINS    := $(UNIT_SOURCES:tests/unit/%.c=$(BUILD)/unit/%)
OBJECTS      := $(SOURCES:src/%.c=$(BUILD)/%.o) $(if $(filter traced,$(FLAVOUR)),$(BUILD)/trace.o)

.PHONY: all
all: $(BIN) ## build the program: build/myserver
	@$(if $(filter release,$(FLAVOUR)),ln -sfn $(BIN:build/%=%) build/myserver)

LAUNCHER_OBJECTS := $(filter $(BUILD)/launcher/% $(BUILD)/base/base.o,$(OBJECTS))
ENGINE_OBJECTS   := $(filter-out $(BUILD)/launcher/%,$(OBJECTS))

$(BIN): $(LAUNCHER_OBJECTS) $(ENGINE) $(BUILD)/flags
	$(SAY) LD $@
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(LAUNCHER_OBJECTS) -ldl

$(ENGINE): $(ENGINE_OBJECTS) src/launcher/engine.map $(LIBEV) $(INIH) $(ENGINE_LLHTTP) $(BUILD)/flags
	$(SAY) LD $@
	$(Q)$(CC) -shared -Wl,--version-script=src/launcher/engine.map $(LINK_FLAGS) -o $@ $(ENGINE_OBJECTS) $(LIBS)

$(BUILD)/control/page.o: src/control/page.html # .incbin
$(BUILD)/%.o: src/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(SAY) CC $<
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/trace.o: tests/tools/trace.c $(BUILD)/flags
	$(SAY) CC $<
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# Without EV_STANDALONE ev.c asks for the config.h of its own build.
COMPILE_FOREIGN = $(CC) -std=gnu17 -fPIC -fvisibility=hidden -w -DEV_STANDALONE=1 $(LLHTTP_CFLAGS) \
                  $(FLAVOUR_FLAGS) -c -o $@ $<
define foreign_rule
$(BUILD)/$(1)/%.o: $(2)%.c $(BUILD)/flags
	@mkdir -p $$(@D)
	$$(SAY) CC $$<
	$$(Q)$$(COMPILE_FOREIGN)
endef
$(eval $(call foreign_rule,libev,$(LIBEV_DIR)/))
$(eval $(call foreign_rule,inih,$(INIH_DIR)/))
$(eval $(call foreign_rule,llhttp,$(dir $(firstword $(LLHTTP_SOURCES)))))

# Debian's archives are compiled for programs, not for libraries (libllhttp.a since forky). All that keeps
# them from the engine is that they take the address of `stderr`; worker.c has a variable for it that the
# linker can reach.
ifeq ($(LIBEV_DIR),)
$(BUILD)/libev/ev.o: $(LIBEV_ARCHIVE) $(BUILD)/flags
	@mkdir -p $(@D)
	$(Q)$(AR) p $< ev.o >$@
	$(Q)objcopy --redefine-sym stderr=libev_stderr $@
endif
ifneq ($(LLHTTP_LIBRARY),)
$(BUILD)/llhttp/llhttp.o: $(LLHTTP_LIBRARY) $(BUILD)/flags
	@mkdir -p $(@D)
	$(Q)$(LD) -r --whole-archive -o $@ $<
	$(Q)objcopy --redefine-sym stderr=libev_stderr $@
endif

# Changes when the compiler, a flag or the interpreter does: everything is then built anew.
$(BUILD)/flags: FORCE
	@$(if $(LLHTTP),,$(error llhttp is missing; `make deps` installs it, or set LLHTTP_DIR))
	@$(if $(LIBEV),,$(error libev.a is missing; `make deps` installs it, or set LIBEV_DIR))
	@$(if $(INIH),,$(error libinih.a is missing; `make deps` installs it, or set INIH_DIR))
	@mkdir -p $(BUILD)
	@printf '%s\n' "$(subst ",,$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(LIBS))" >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

.PHONY: FORCE
FORCE:

-include $(wildcard $(OBJECTS:.o=.d) $(UNIT_BINS:=.d))

## ---------------------------------------------------------------- tests

TEST_ENV  := MYSERVER_BIN=$(CURDIR)/$(BIN) MYSERVER_FLAVOUR=$(FLAVOUR) \
             MYSERVER_VENV=$(CURDIR)/$(VENV)

# A unit test includes the .c it tests; of the others the linker takes from the archive what is
# used, so that a test of the lower layers needs no loop and no Python. The archive is thin: two
# folders may have a file of the same name.
$(BUILD)/parts.a: $(filter-out $(BUILD)/main.o $(BUILD)/launcher/launcher.o,$(OBJECTS)) | $(INIH) $(LLHTTP)
	@rm -f $@
	@$(if $(LTO),gcc-ar,ar) rcsT $@ $^

# What tests/test_reference.py compares with its model.
RESULTS_BIN := $(BUILD)/unit/http_results
$(RESULTS_BIN): tests/tools/http_results.c $(BUILD)/parts.a $(BUILD)/flags
	@mkdir -p $(@D)
	$(SAY) LD $@
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< $(BUILD)/parts.a $(PARTS_LIBS)

$(BUILD)/unit/%: tests/unit/%.c $(BUILD)/parts.a $(BUILD)/flags
	@mkdir -p $(@D)
	$(SAY) LD $@
	$(Q)$(CC) $(ALL_CFLAGS) -iquote src -MMD -MP -MF $@.d $(ALL_LDFLAGS) -o $@ $< $(BUILD)/parts.a \
	    -lcmocka $(PARTS_LIBS) $(UNIT_LIBS)
$(BUILD)/unit/python/test_gil: UNIT_LIBS := -L$(PY_LIBDIR) -Wl,-rpath,$(PY_LIBDIR) -l$(PY_LIBRARY)

UNIT_WANTED := $(foreach t,$(UNIT_BINS),$(if $(T),$(if $(findstring $(T),$(notdir $t)),$t),$t))
.PHONY: unit
unit: $(UNIT_WANTED) ## build and run the C unit tests; T=name for some
	@for test in $(UNIT_WANTED); do \
	    echo "$$test"; "$$test" || exit 1; \
	done

.PHONY: venv
venv: $(VENV)/installed-$(PY_KEY) ## the virtualenv of tests and shop, from requirements-dev.txt
$(VENV)/installed-$(PY_KEY): requirements-dev.txt
	test -e $@ || $(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# The tests mostly wait, so that more run at once than there are CPUs: PYTEST_ARGS=-n0 for one after
# the other.
TEST_JOBS  = $(shell nproc | awk '{ print ($$1 < 4 ? 2 * $$1 : 8) }')
TEST_FILES = tests
# pytest's status 5 is "no test has that name": then it was the name of a unit test.
.PHONY: pytest
pytest: $(BIN) $(BUILD)/unit/http_results venv ## run the tests of the built program; T=name for some
	@status=0; $(TEST_ENV) $(VENV)/bin/python -m pytest $(TEST_FILES) -n $(TEST_JOBS) --dist worksteal \
	    $(if $(T),-k '$(T)') $(PYTEST_ARGS) || status=$$?; \
	$(if $(T),test $$status -ne 5 || status=0;) exit $$status

.PHONY: test-installed
test-installed: $(BIN)
	$(AGAIN) $(JOBS) $(UNIT_WANTED)
	$(AGAIN) unit
	$(AGAIN) pytest

# The newest llhttp, as httptools ships its C source. The parser must decide alike on it and on
# Debian's 8.
LLHTTP_9 := $(CURDIR)/$(VENV)/llhttp-9
$(LLHTTP_9)/llhttp.h: requirements-llhttp.txt $(VENV)/installed-$(PY_KEY)
	@rm -rf $(LLHTTP_9) && mkdir -p $(LLHTTP_9)
	$(VENV)/bin/python -m pip download --quiet --disable-pip-version-check --no-deps \
	    --no-binary :all: -d $(LLHTTP_9) -r requirements-llhttp.txt
	@tar -xzf $(LLHTTP_9)/httptools-*.tar.gz -C $(LLHTTP_9) --transform='s|.*/||' --wildcards \
	    '*/vendor/llhttp/include/*.h' '*/vendor/llhttp/src/*.c'
	@touch $@

.PHONY: test-llhttp9
test-llhttp9: $(LLHTTP_9)/llhttp.h ## the tests of the parser, on llhttp 9 instead of the system's
	$(AGAIN) LLHTTP_DIR=$(LLHTTP_9) $(JOBS) unit T=test_parse
	$(AGAIN) LLHTTP_DIR=$(LLHTTP_9) $(JOBS) pytest TEST_FILES='tests/server/test_requests.py tests/test_reference.py'

.PHONY: test
test: ## install what is missing, build, run every test; T=name for some
	$(AGAIN) deps-test
	$(AGAIN) $(JOBS) all
	$(AGAIN) test-installed
	$(if $(T),,$(AGAIN) test-llhttp9)

# The four end by themselves, each also when make is killed. The tests of a part: T=name.
BUSY_RUNS ?= 10
.PHONY: test-busy
test-busy: $(BIN) venv ## BUSY_RUNS=10 runs of all tests beside four busy processes, and how many failed
	@mkdir -p $(BUILD)/busy; failed=0; \
	for run in $$(seq $(BUSY_RUNS)); do \
	    pids=; for _ in 1 2 3 4; do timeout 3600 sh -c 'while :; do :; done' & pids="$$pids $$!"; done; \
	    $(AGAIN) pytest PYTEST_ARGS="-v $(PYTEST_ARGS)" >$(BUILD)/busy/$$run.log 2>&1 || failed=$$((failed + 1)); \
	    kill $$pids; wait; \
	    echo "run $$run: $$(grep -E '^=+ .*(passed|failed|error)' $(BUILD)/busy/$$run.log | tail -n 1)"; \
	    grep -E '^(FAILED|ERROR) ' $(BUILD)/busy/$$run.log || :; \
	done; \
	echo "$$failed of $(BUSY_RUNS) runs failed; their output is in $(BUILD)/busy"; test $$failed -eq 0

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

# Other releases of Debian, each in a folder below build/debian. Needs root and debootstrap.
.PHONY: test-debian
test-debian: ## the tests on another release of Debian: SUITE=bullseye, trixie, forky or sid
	@$(if $(SUITE),,$(error SUITE= is missing: bullseye, trixie, forky, sid))
	@$(call install_missing,debootstrap)
	python3 tests/tools/debian.py $(SUITE) $(if $(T),-k '$(T)') $(PYTHONS)

RELEASES ?= bookworm trixie forky
.PHONY: test-matrix
test-matrix: ## the tests on RELEASES="bookworm trixie forky", each Python of each, into a table in README: hours
	@$(call install_missing,debootstrap)
	python3 tests/tools/matrix.py $(if $(T),-k '$(T)') $(RELEASES)

.PHONY: test-deb
test-deb: ## build the packages on SUITE=, install, upgrade under load and purge them under its systemd
	@$(if $(SUITE),,$(error SUITE= is missing: bookworm, trixie, forky))
	@$(call install_missing,debootstrap)
	python3 tests/tools/deb.py $(SUITE)

.PHONY: test-cgroup2
test-cgroup2: $(BIN) venv ## the tests of containers under a kernel that limits memory by cgroups of version 2
	@$(call install_missing,user-mode-linux)
	$(TEST_ENV) python3 tests/tools/cgroup2.py $(CURDIR)/$(VENV)/bin/python -n0 tests/server/test_containers.py $(if $(T),-k '$(T)')

.PHONY: test-wheels
test-wheels: ## a wheel and an sdist for each usable CPython, installed beside others and served
	$(AGAIN) deps-build
	rm -rf build/dist && $(AGAIN) sdist DIST=build/dist
	@pythons=$$(python3 tests/tools/find_pythons.py); \
	for python in $$pythons; do $(AGAIN) PYTHON="$$python" wheel DIST=build/dist || exit 1; done; \
	set -- build/packagers-*/bin/python; "$$1" tests/tools/wheels.py build/dist $$pythons

.PHONY: soak
soak: $(BIN) venv ## deploys, then SOAK_S=600 seconds of chaos under load; every request accounted for
	$(TEST_ENV) $(VENV)/bin/python tests/tools/deploys.py $(SOAK_ARGS)
	$(TEST_ENV) $(VENV)/bin/python tests/tools/deploys.py --shop $(SOAK_ARGS)
	$(TEST_ENV) $(VENV)/bin/python tests/tools/soak.py --seconds $(SOAK_S)

COMPATIBILITY := $(VENV:.venv%=.venv-compatibility%)
$(COMPATIBILITY)/installed-$(PY_KEY): tests/compatibility/requirements.txt
	test -e $@ || $(PYTHON) -m venv --clear $(COMPATIBILITY)
	$(COMPATIBILITY)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.PHONY: compatibility
compatibility: $(BIN) $(COMPATIBILITY)/installed-$(PY_KEY) ## popular libraries, beside gunicorn, into docs/compatibility.md: an hour
	$(TEST_ENV) $(COMPATIBILITY)/bin/python tests/compatibility/run.py --table $(COMPATIBILITY_ARGS)

# The unit tests of what reads foreign bytes, then raw requests, the protocol of applications, and some
# lives of workers, over a socket. No immortal objects:
# valgrind must see each freed.
MEMCHECK := valgrind --quiet --suppressions=$(CURDIR)/tests/tools/valgrind.supp --error-exitcode=99
LIFECYCLE := hooks_and_threads or sys_exit or slow_request_survives or new_settings or term_finishes \
             or reload_waits or loses_no_request or killed_worker or ttin_and
CHECKED  := base/test_buf base/test_log base/test_text config/test_options config/test_read http/test_access \
            http/test_body http/test_forwarded http/test_parse http/test_proxy http/test_response
.PHONY: valgrind
valgrind: $(BIN) $(CHECKED:%=$(BUILD)/unit/%) venv ## the protocol's tests under valgrind
	for test in $(CHECKED); do \
	    $(MEMCHECK) --leak-check=full $(BUILD)/unit/$$test || exit 1; \
	done
	@mkdir -p $(BUILD)/valgrind
	@printf '#!/bin/sh\nexport PYTHONMALLOC=malloc\nexec %s %s --no-immortal "$$@"\n' \
	    '$(MEMCHECK)' '$(CURDIR)/$(BIN)' >$(BUILD)/valgrind/myserver
	@chmod +x $(BUILD)/valgrind/myserver
	$(TEST_ENV) MYSERVER_BIN=$(CURDIR)/$(BUILD)/valgrind/myserver MYSERVER_FLAVOUR=tsan \
	    $(VENV)/bin/python -m pytest tests/server/test_requests.py tests/server/test_wsgi.py
	$(TEST_ENV) MYSERVER_BIN=$(CURDIR)/$(BUILD)/valgrind/myserver MYSERVER_FLAVOUR=tsan \
	    $(VENV)/bin/python -m pytest tests/server/test_shutdown.py tests/server/test_reload.py \
	    tests/server/test_master.py -k '$(LIFECYCLE)'

# The corpus grows in build/fuzz and starts from the raw requests of the tests, and TARGET.seeds.
.PHONY: fuzz fuzz-run
fuzz: ## fuzz all that reads foreign bytes, FUZZ_S=60 seconds each
	$(AGAIN) CC=clang FLAVOUR=fuzz $(JOBS) fuzz-run
	MYSERVER_DIFFERENTIAL=$$(($(FUZZ_S) * 3000)) $(AGAIN) pytest T=test_differential

fuzz-run: $(FUZZ_SOURCES:tests/fuzz/%.c=$(BUILD)/%.run)
$(BUILD)/%.run: $(BUILD)/%.fuzz FORCE
	@mkdir -p build/fuzz/$*
	$< -max_total_time=$(FUZZ_S) -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
	    -artifact_prefix=build/fuzz/$*- $(addprefix -dict=,$(wildcard tests/fuzz/$*.dict)) \
	    build/fuzz/$* tests/requests $(wildcard tests/fuzz/$*.seeds)
$(BUILD)/%.fuzz: tests/fuzz/%.c tests/fuzz/fuzz.h $(BUILD)/parts.a $(BUILD)/flags
	$(CC) $(ALL_CFLAGS) -iquote src $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $< $(BUILD)/parts.a $(PARTS_LIBS)

## ---------------------------------------------------------------- benchmarks

DEPS_BENCH = wrk nginx-light postgresql apache2-dev apache2-bin libpcre2-dev valgrind
SCENARIOS ?= all
HOST      ?= http://127.0.0.1:8000

.PHONY: bench bench-deps instructions locust
bench-deps: apt-lists
	@$(call install_missing,$(DEPS_BUILD) $(DEPS_BENCH))
bench: bench-deps ## measure beside other servers, about 45 minutes; QUICK=1: below 5; SCENARIOS="start scale": these
	$(AGAIN) $(JOBS) all
	$(PYTHON) benchmarks/run.py $(SCENARIOS) $(if $(QUICK),--quick) $(BENCH_ARGS)
	$(AGAIN) instructions
instructions: $(BIN) ## count the instructions of a request, and fail when there are more than there were
	$(PYTHON) benchmarks/instructions.py --program $(BIN) --check
locust: ## watch the requests of the benchmarks: HOST=http://127.0.0.1:8000
	"$$($(PYTHON) benchmarks/install.py)/bin/locust" -f benchmarks/locustfile.py --host $(HOST)

## ---------------------------------------------------------------- lint

C_FILES  := $(SOURCES) $(HEADERS) $(UNIT_SOURCES) $(FUZZ_SOURCES) $(wildcard tests/fuzz/*.h tests/tools/*.c)
TIDY_OK  := $(SOURCES:src/%.c=$(BUILD)/tidy/%.ok)
PY_DIRS  := python tests benchmarks shop
RUFF     := $(VENV)/bin/ruff
DOCS_ini := conf/myserver.ini
DOCS_md  := conf/OPTIONS.md
DOCS_man := conf/myserver.1
DOCS_schema := conf/myserver.schema.json

.PHONY: lint
lint: lint-format lint-layers lint-headers lint-docs lint-clang lint-cppcheck lint-analyzer lint-tidy \
      lint-python lint-bandit ## all static checks

.PHONY: format lint-format
format: ## format the C sources; and the Python, where `make venv` has run
	clang-format -i $(C_FILES)
	$(if $(wildcard $(RUFF)),$(RUFF) format $(PY_DIRS))
lint-format:
	clang-format --dry-run -Werror $(C_FILES)

.PHONY: lint-layers
lint-layers: $(OBJECTS)
	$(PYTHON) tests/tools/check_house.py --objects $(BUILD) --nm $(if $(LTO),gcc-nm,nm) -- \
	    $(CC) $(BASE_CFLAGS)
	$(PYTHON) tests/tools/check_functions.py

# Every header is complete in itself.
.PHONY: lint-headers
lint-headers:
	@for header in $(HEADERS); do \
	    $(CC) $(BASE_CFLAGS) $(STRICT) -fsyntax-only -x c "$$header" || exit 1; \
	done

.PHONY: docs lint-docs
docs: $(BIN) ## write the sample ini, its schema, the reference page and the manual page from the option table
	@$(foreach kind,ini md man schema,$(BIN) --options=$(kind) >$(DOCS_$(kind)) &&) true
lint-docs: $(BIN)
	@for pair in ini:$(DOCS_ini) md:$(DOCS_md) man:$(DOCS_man) schema:$(DOCS_schema); do \
	    $(BIN) --options="$${pair%%:*}" | cmp - "$${pair#*:}" \
	        || { echo "$${pair#*:} is stale: run make docs"; exit 1; }; \
	done

# The second compiler finds other things. -O2: some warnings need the optimizer's analysis.
.PHONY: lint-clang
lint-clang:
	@for source in $(SOURCES) $(FUZZ_SOURCES); do \
	    clang $(BASE_CFLAGS) -iquote src $(STRICT) -O2 -fsyntax-only "$$source" || exit 1; \
	done

# missingReturn: it takes the macros that open Python's functions for ends without a value.
# ctuuninitvar: it takes what a callee fills through a pointer for read before.
.PHONY: lint-cppcheck
lint-cppcheck:
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
	    --error-exitcode=1 --suppress=missingIncludeSystem --suppress=missingReturn \
	    --suppress=ctuuninitvar \
	    -I include $(DEFINES) $(filter -D%,$(LLHTTP_CFLAGS)) src

# The file that fills the heap on purpose.
NOT_ANALYZED_python/heap/holes := -Wno-analyzer-malloc-leak
.PHONY: lint-analyzer
lint-analyzer: $(SOURCES:src/%.c=$(BUILD)/analyzed/%.ok)
$(BUILD)/analyzed/%.ok: src/%.c $(HEADERS)
	@mkdir -p $(@D)
	gcc $(BASE_CFLAGS) $(STRICT) -O2 -fanalyzer $(NOT_ANALYZED_$*) -c -o /dev/null $<
	@touch $@

# pyproject.toml has their rules. `ruff format` mends what the second of them names.
.PHONY: lint-python
lint-python: venv
	$(RUFF) check $(PY_DIRS)
	$(RUFF) format --check $(PY_DIRS)
	$(VENV)/bin/python -m mypy

# Skipped: an assert is for bugs of ours, programs are started without a shell, and an address is what
# the user has written.
.PHONY: lint-bandit
lint-bandit: venv
	$(VENV)/bin/python -m bandit --quiet --recursive --skip B101,B104,B404,B603,B606 python

# kubectl is no package of every Debian: what is left out is said.
KUBERNETES := $(VENV:.venv%=.venv-kubernetes%)
$(KUBERNETES)/installed-$(PY_KEY): requirements-kubernetes.txt
	test -e $@ || $(PYTHON) -m venv --clear $(KUBERNETES)
	$(KUBERNETES)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.PHONY: lint-kubernetes
lint-kubernetes: $(KUBERNETES)/installed-$(PY_KEY) ## deploy/kubernetes against the published schemas
	$(KUBERNETES)/bin/python tests/tools/check_kubernetes.py $(wildcard deploy/kubernetes/overlays/*)

.PHONY: lint-tidy
lint-tidy: $(TIDY_OK)
$(BUILD)/tidy/%.ok: src/%.c $(HEADERS) .clang-tidy
	@mkdir -p $(@D)
	clang-tidy --quiet $< -- $(BASE_CFLAGS) -Wall -Wextra 2>$@.err || { cat $@.err; exit 1; }
	@touch $@

## ---------------------------------------------------------------- wheels and the sdist

# The backend is hatchling, whose hook (packaging/hatch_build.py) calls `wheel-files`. The tag, that
# is which machines a wheel is for, is auditwheel's.
PACKAGERS := build/packagers-$(PY_KEY)
.PHONY: wheel sdist wheel-files
wheel: $(PACKAGERS)/installed ## a wheel for PYTHON=: dist/*.whl
	$(PACKAGERS)/bin/python -m build --wheel --no-isolation --outdir build/wheel/$(PY_KEY) .
	PATH=$(CURDIR)/$(PACKAGERS)/bin:$$PATH $(PACKAGERS)/bin/auditwheel repair --wheel-dir $(DIST) \
	    build/wheel/$(PY_KEY)/*-$(VERSION)-cp$(subst .,,$(PY_MINOR))-*.whl
sdist: $(PACKAGERS)/installed ## the sources, with those of the C libraries: dist/*.tar.gz
	$(PACKAGERS)/bin/python -m build --sdist --no-isolation --outdir $(DIST) .
$(PACKAGERS)/installed: requirements-packagers.txt
	$(PYTHON) -m venv --clear $(PACKAGERS)
	$(PACKAGERS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# To the directory WHEEL=, without what only debuggers read. This launcher knows no interpreter of the
# machine that it was built on.
DIST  ?= dist
WHEEL ?= build/wheel/$(PY_MINOR)
wheel-files: $(BIN)
	@rm -rf $(WHEEL) && mkdir -p $(WHEEL)
	$(Q)$(CC) $(ALL_CFLAGS) -UMYSERVER_PYTHON_EXECUTABLE -DMYSERVER_PYTHON_EXECUTABLE='""' $(ALL_LDFLAGS) \
	    -o $(WHEEL)/myserver $(wildcard src/launcher/*.c) src/base/base.c -ldl
	$(Q)strip --strip-debug -o $(WHEEL)/$(notdir $(ENGINE)) $(ENGINE)
	$(Q)strip --strip-debug $(WHEEL)/myserver

## ---------------------------------------------------------------- the rest

SHARE := $(DESTDIR)$(PREFIX)/share
.PHONY: install
install: $(BIN) ## install below PREFIX=/usr/local (DESTDIR= for packagers)
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/myserver
	install -D -m 644 $(ENGINE) $(DESTDIR)$(PREFIX)/lib/myserver/$(notdir $(ENGINE))
	install -D -m 644 $(DOCS_man) $(SHARE)/man/man1/myserver.1
	install -D -m 644 $(DOCS_ini) $(SHARE)/doc/myserver/myserver.ini
	install -D -m 644 $(DOCS_md) $(SHARE)/doc/myserver/OPTIONS.md
	install -D -m 644 $(DOCS_schema) $(SHARE)/doc/myserver/myserver.schema.json
	cd python && find myserver _myserver.pyi -name __pycache__ -prune -o -type f -exec \
	    install -D -m 644 '{}' '$(DESTDIR)$(PREFIX)/lib/myserver/python/{}' \;

# packaging/debian is the debian/ of the source package.
.PHONY: deb
deb: ## packages for the Debian that this runs on, checked by lintian, into build/deb
	@$(call install_missing,build-essential lintian xz-utils)
	AS_ROOT='$(AS_ROOT)' packaging/deb $(VERSION)

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
DEPS_TEST  = libcmocka-dev iproute2 clang clang-format clang-tidy cppcheck nginx-light haproxy valgrind strace curl wrk \
             apache2-utils postgresql mariadb-server-core prometheus locales libjemalloc2 libmimalloc-dev chromium chromium-driver \
             $(shell apt-cache pkgnames libtcmalloc-minimal4 2>/dev/null) \
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
	@sed -n 's/^\([a-z][a-z0-9_. -]*\):[^#]*## \(.*\)/\1|\2/p' Makefile \
	    | while IFS='|' read -r target text; do printf '  %-22s %s\n' "$$target" "$$text"; done
