# Fuzzing with clang's libFuzzer, AddressSanitizer and UBSan: each tests/fuzz/NAME.c is a target of its own, linked
# with all of the host's rooms but main. Seeds are in tests/fuzz/corpus/NAME; what a run finds besides goes to
# build/fuzz/corpus/NAME, and an input that breaks something to build/fuzz/NAME-*. SECONDS=0 only replays the seeds.

FUZZ_OUT   := $(BUILD)/fuzz
FUZZ_C     := $(wildcard tests/fuzz/*.c)
FUZZ_NAMES := $(FUZZ_C:tests/fuzz/%.c=%)
FUZZ       ?= $(FUZZ_NAMES)
SECONDS    ?= 60
CLANG      ?= clang

# The longest input of a target, 4096 bytes where nothing is said: what a room refuses for its length teaches little.
FUZZ_LEN_codec   := 512
FUZZ_LEN_pattern := 256
FUZZ_LEN_regexp  := 256
FUZZ_LEN_semver  := 400
# Targets that keep a Lua state between inputs would be searched for leaks after nearly each of them.
FUZZ_FLAGS_config  := -detect_leaks=0
FUZZ_FLAGS_pattern := -detect_leaks=0
FUZZ_FLAGS_pktline := -detect_leaks=0

FUZZ_CFLAGS := $(BASE) $(WARN) -Werror -Wno-unknown-warning-option -O1 -g -fno-omit-frame-pointer \
               -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -DMOONTIDE_KILLPOINTS
FUZZ_O      := $(patsubst host/%.c,$(FUZZ_OUT)/host/%.o,$(filter-out host/main.c,$(HOST_C)))

# Runs target $1: seeds last, since libFuzzer writes to the first folder.
fuzz_run = set -e; echo "== $1"; mkdir -p $(FUZZ_OUT)/corpus/$1; \
  nice $(FUZZ_OUT)/$1 $(if $(filter 0,$(SECONDS)),-runs=0,-max_total_time=$(SECONDS)) \
    -max_len=$(or $(FUZZ_LEN_$1),4096) $(FUZZ_FLAGS_$1) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix=$(FUZZ_OUT)/$1- $(patsubst %,-dict=%,$(wildcard tests/fuzz/$1.dict)) \
    $(FUZZ_OUT)/corpus/$1 $(wildcard tests/fuzz/corpus/$1)

.PHONY: fuzz fuzzers
fuzz: deps deps-fuzz ## look for inputs that break a room (FUZZ="semver pattern", SECONDS=60 each)
	@$(MAKE) -s -j$(JOBS) fuzzers FUZZ="$(FUZZ)"
	@$(foreach name,$(FUZZ),$(call fuzz_run,$(name));)

fuzzers: $(FUZZ:%=$(FUZZ_OUT)/%)

$(FUZZ_NAMES:%=$(FUZZ_OUT)/%): $(FUZZ_OUT)/%: tests/fuzz/%.c tests/fuzz/fuzz.h $(FUZZ_O) $(OUT)/embed_table.o $(OUT)/cjson.a
	@echo "  FUZZ $<"
	@$(CLANG) $(FUZZ_CFLAGS) $(PKG_CFLAGS) -Ihost -fsanitize=fuzzer $(LINK) -o $@ $< $(FUZZ_O) $(OUT)/embed_table.o $(OUT)/cjson.a \
	  $(LUA_LIBS) $(PKG_LIBS)

$(FUZZ_OUT)/host/%.o: host/%.c Makefile tests/fuzz.mk
	@mkdir -p $(@D)
	@$(CLANG) $(FUZZ_CFLAGS) $(PKG_CFLAGS) -MMD -MP -c -o $@ $<

$(FUZZ_OUT)/host/version.o: FUZZ_CFLAGS += -DMOONTIDE_VERSION='"$(VERSION)"'
-include $(FUZZ_O:.o=.d)
