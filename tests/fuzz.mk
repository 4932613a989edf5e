# Fuzzing with clang's libFuzzer, AddressSanitizer and UBSan: each tests/fuzz/NAME.c is a target of its own, linked
# with all of the host's rooms but main. Seeds are in tests/fuzz/corpus/NAME; what a run finds besides goes to
# build/fuzz/corpus/NAME, and an input that breaks something to build/fuzz/NAME-*. SECONDS=0 only replays the seeds.

FUZZ_OUT   := $(BUILD)/fuzz
FUZZ_C     := $(wildcard tests/fuzz/*.c)
FUZZ_NAMES := $(FUZZ_C:tests/fuzz/%.c=%)
FUZZ       ?= $(FUZZ_NAMES)
SECONDS    ?= 60
CLANG      ?= clang

FUZZ_CFLAGS := $(BASE) $(WARN) -Werror -Wno-unknown-warning-option -O1 -g -fno-omit-frame-pointer \
               -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -DMOONTIDE_KILLPOINTS
FUZZ_O      := $(patsubst host/%.c,$(FUZZ_OUT)/host/%.o,$(filter-out host/main.c,$(HOST_C)))

.PHONY: fuzz fuzzers
fuzz: deps deps-fuzz ## look for inputs that break a room (FUZZ="semver pattern", SECONDS=60 each)
	@$(MAKE) -s -j$(JOBS) fuzzers FUZZ="$(FUZZ)"
	@set -e; for name in $(FUZZ); do \
	  echo "== $$name"; \
	  mkdir -p $(FUZZ_OUT)/corpus/$$name; \
	  dict=; [ ! -f tests/fuzz/$$name.dict ] || dict=-dict=tests/fuzz/$$name.dict; \
	  limit=-max_total_time=$(SECONDS); [ "$(SECONDS)" != 0 ] || limit=-runs=0; \
	  nice $(FUZZ_OUT)/$$name $$limit -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
	    -artifact_prefix=$(FUZZ_OUT)/$$name- $$dict $(FUZZ_OUT)/corpus/$$name tests/fuzz/corpus/$$name; \
	done

fuzzers: $(FUZZ:%=$(FUZZ_OUT)/%)

$(FUZZ_NAMES:%=$(FUZZ_OUT)/%): $(FUZZ_OUT)/%: tests/fuzz/%.c tests/fuzz/fuzz.h $(FUZZ_O) $(OUT)/embed_table.o
	@echo "  FUZZ $<"
	@$(CLANG) $(FUZZ_CFLAGS) $(PKG_CFLAGS) -Ihost -fsanitize=fuzzer $(LINK) -o $@ $< $(FUZZ_O) $(OUT)/embed_table.o \
	  $(LUA_LIBS) $(PKG_LIBS)

$(FUZZ_OUT)/host/%.o: host/%.c Makefile tests/fuzz.mk
	@mkdir -p $(@D)
	@$(CLANG) $(FUZZ_CFLAGS) $(PKG_CFLAGS) -MMD -MP -c -o $@ $<

$(FUZZ_OUT)/host/version.o: FUZZ_CFLAGS += -DMOONTIDE_VERSION='"$(VERSION)"'
-include $(FUZZ_O:.o=.d)
