# Moontide. `make` builds build/debug/moontide and links build/moontide to it; `make help` tells the rest.
#
# Variants (V=): debug, release, asan (AddressSanitizer and UBSan), cov (gcov), fault (allocation-failure seams).
# Objects go to build/$(V)/; nothing else in the tree is written. Only `make deps` installs anything. This file builds
# and installs the program, and has what is typed most: demo, test, check, bench. The parts of these, and what else
# tests, measures and packs it, are in tests/*.mk.

# make's own rules cost it more than all the work that a build with nothing to do has.
MAKEFLAGS += --no-builtin-rules

V      ?= debug
BUILD  ?= build
OUT    := $(BUILD)/$(V)
PREFIX ?= /usr/local
DESTDIR ?=
CC     ?= cc
JOBS   ?= 2

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

PKGS := libcurl libuv sqlite3 yaml-0.1 libmicrohttpd libcrypto zlib libpcre2-8
# Asked once, by the first recipe that wants it.
PKG_CFLAGS = $(eval PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) lua5.4 2>/dev/null))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null))$(PKG_LIBS)
# The failure seam is made at link time: it reaches into archives only.
PKG_LIBS_fault = $(patsubst -lpcre2-8,-l:libpcre2-8.a,$(patsubst -lyaml,-l:libyaml.a,$(patsubst -lsqlite3,-l:libsqlite3.a,$(PKG_LIBS))))
# Lua and lua-cjson (cjson.a, below) come from the distribution's static archives: no shared liblua, no loader.
LUA_LIBS   = -l:liblua5.4.a -lm -ldl

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith -Wcast-qual \
        -Wformat=2 -Wundef -Wwrite-strings
BASE := -std=c11 -D_GNU_SOURCE -fstack-protector-strong -fno-common -fPIE
LINK := -pie -Wl,-z,relro,-z,now

CFLAGS_debug   := -O0 -g -Werror -DMOONTIDE_KILLPOINTS
CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=2
CFLAGS_asan    := -O1 -g3 -Werror -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
                  -DMOONTIDE_KILLPOINTS
CFLAGS_cov     := -O0 -g3 -Werror --coverage -DMOONTIDE_KILLPOINTS
CFLAGS_fault   := -O1 -g3 -Werror -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
                  -DMOONTIDE_FAULTS
LDFLAGS_asan   := -fsanitize=address,undefined
LDFLAGS_cov    := --coverage
LDFLAGS_fault  := -fsanitize=address,undefined \
                  -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup

ifeq ($(CFLAGS_$(V)),)
$(error V=$(V) is not a variant: use debug, release, asan, cov or fault)
endif

ALL_CFLAGS  = $(BASE) $(WARN) $(CFLAGS_$(V)) $(PKG_CFLAGS) $(CFLAGS)
ALL_LDFLAGS = $(LINK) $(LDFLAGS_$(V)) $(LDFLAGS)

HOST_C   := $(filter-out host/embed_make.c,$(wildcard host/*.c))
HOST_O   := $(HOST_C:%.c=$(OUT)/%.o) $(OUT)/embed_table.o $(OUT)/cjson.a
LIB_O    := $(filter-out $(OUT)/host/main.o,$(HOST_O))
# The program makes the pages config and words itself.
MANUAL   := $(filter-out %/config.md %/words.md,$(wildcard config/manual/*.md))
EMBEDDED := $(sort $(filter-out $(wildcard scripts/*_test.lua),$(shell find stdlib scripts -name '*.lua' 2>/dev/null)) $(MANUAL))

.PHONY: all help install uninstall clean FORCE
all: $(OUT)/moontide ## build the host (V=debug|release|asan|cov|fault)
	@mkdir -p $(BUILD) && ln -sf $(V)/moontide $(BUILD)/moontide

help: ## show the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile tests/*.mk 2>/dev/null | sed -E 's/:.*## /\t/' | expand -t 16

$(OUT)/moontide: $(HOST_O)
	@echo "  LD  $@"
	@$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LUA_LIBS) $(or $(PKG_LIBS_$(V)),$(PKG_LIBS))

$(OUT)/host/%.o: host/%.c Makefile | $(BUILD)/libraries $(OUT)/host
	@$(info $()  CC  $<)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(OUT)/host:
	@mkdir -p $@

# Says what is missing in one line, instead of a page of headers that cannot be found.
$(BUILD)/libraries:
	@pkg-config --exists $(PKGS) lua5.4 lua5.4-cjson 2>/dev/null || { echo "libraries are missing: run 'make deps-build'"; exit 1; }
	@mkdir -p $(@D) && touch $@

# The version changes with every commit: only this object depends on it.
$(OUT)/host/version.o: ALL_CFLAGS += -DMOONTIDE_VERSION='"$(VERSION)"'
$(OUT)/host/version.o: $(OUT)/version.stamp
$(OUT)/version.stamp: FORCE
	@mkdir -p $(@D); echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' >$@

# The distribution's lua-cjson, in which these calls lead to host/json_read.c, as json_createtable and so on.
CJSON_CALLS := $(foreach name,malloc free strtod,$(name)=json_$(name)) \
               $(foreach name,createtable pushlightuserdata pushnumber rawset,lua_$(name)=json_$(name))
$(OUT)/cjson.a: Makefile | $(BUILD)/libraries
	@mkdir -p $(@D)
	@objcopy $(CJSON_CALLS:%=--redefine-sym %) $$($(CC) -print-file-name=liblua5.4-cjson.a) $@

# Every stdlib module, default script and page of the manual becomes part of the binary. Byte code is of one version of Lua only.
LUA_A := $(wildcard $(shell $(CC) -print-file-name=liblua5.4.a))
$(OUT)/embed_make: host/embed_make.c $(LUA_A) Makefile | $(BUILD)/libraries
	@mkdir -p $(@D)
	@$(CC) $(BASE) $(WARN) -O2 $(PKG_CFLAGS) -o $@ $< $(LUA_LIBS)
$(OUT)/embed_table.c: $(OUT)/embed_make $(EMBEDDED) $(OUT)/embed.list
	@printf '%s\n' $(EMBEDDED) | LC_ALL=C sort | $(OUT)/embed_make $(OUT)/embed_code >$@ || { rm -f $@; exit 1; }
$(OUT)/embed.list: FORCE
	@mkdir -p $(@D); echo '$(EMBEDDED)' | cmp -s - $@ || echo '$(EMBEDDED)' >$@
$(OUT)/embed_table.o: $(OUT)/embed_table.c host/embed.h
	@$(CC) -std=c11 -fPIE -Ihost -c -o $@ $<

# One file is enough to run; the rest is what one edits and reads.
SHARE := $(DESTDIR)$(PREFIX)/share/moontide
SYSTEMD := $(DESTDIR)$(PREFIX)/lib/systemd
install: ## build release, then install below DESTDIR and PREFIX
	@$(MAKE) -s -j$(JOBS) V=release all
	install -D -m 755 $(BUILD)/release/moontide $(DESTDIR)$(PREFIX)/bin/moontide
	install -D -m 644 config/moontide.lua $(SHARE)/moontide.lua.example
	cd scripts && find . -name '*.lua' -exec install -D -m 644 {} $(abspath $(SHARE))/scripts/{} \;
	install -D -m 644 README.md $(DESTDIR)$(PREFIX)/share/doc/moontide/README.md
	@install -d $(SYSTEMD)/system
	sed 's|@PREFIX@|$(PREFIX)|g' config/moontide.service >$(SYSTEMD)/system/moontide.service
	@chmod 644 $(SYSTEMD)/system/moontide.service
	install -D -m 644 config/moontide.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/moontide.conf
	install -D -m 644 config/moontide-docker.conf $(SHARE)/docker.conf
	@[ -n "$(DESTDIR)" ] || ! getent group docker >/dev/null || \
	  install -D -m 644 config/moontide-docker.conf $(SYSTEMD)/system/moontide.service.d/docker.conf
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || getent passwd moontide >/dev/null || \
	  { useradd --system --user-group --home-dir /var/lib/moontide --shell /usr/sbin/nologin moontide && \
	    echo "made the user moontide, which the unit runs as"; }

uninstall: ## remove what install put there
	rm -rf $(SHARE) $(DESTDIR)$(PREFIX)/share/doc/moontide
	rm -rf $(SYSTEMD)/system/moontide.service.d
	rm -f $(DESTDIR)$(PREFIX)/bin/moontide $(SYSTEMD)/system/moontide.service \
	  $(DESTDIR)$(PREFIX)/lib/sysusers.d/moontide.conf

clean: ## remove build/ and compile_commands.json
	rm -rf $(BUILD) compile_commands.json

FORCE:

# ---- what is typed most; its parts are in tests/*.mk ----

TEST_VARIANTS := debug asan

.PHONY: demo test check bench
demo: deps ## the whole story with real parts, on loopback (KEEP=1 leaves it running)
	@$(MAKE) -s -j$(JOBS) all
	@$(OUT)/moontide exec tests/demo.lua $(if $(KEEP),--keep) $(DEMO)

test: deps ## install what is missing, build, run every test (T="filter ..." for some)
	@$(MAKE) -s -j$(JOBS) all units
	@$(OUT)/moontide exec tests/run.lua $(T)

check: lint ## lint, then all tests in debug and asan, the allocation-failure and the crash sweep
	@set -e; for v in $(TEST_VARIANTS); do echo "== tests, $$v"; $(MAKE) -s V=$$v test; done
	@echo "== allocation failures"; $(MAKE) -s fault
	@echo "== crashes"; $(MAKE) -s sweep

# B7 needs the parts of a cluster; building them takes minutes the first time.
bench: deps deps-bench $(if $(filter-out B7 b7,$(B)),$(if $(filter B7 b7,$(B)),cluster-build),cluster-build) ## measure against peers in the same run (BENCH=quick, B="B1 B3" for some)
	@$(MAKE) -s -j$(JOBS) V=release all bench-peers
	@$(BUILD)/release/moontide exec tests/bench.lua $(if $(filter quick,$(BENCH)),--quick) $(B)

-include $(HOST_C:%.c=$(OUT)/%.d)
include tests/*.mk
