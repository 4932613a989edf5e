# Reading without running: formatters, analysers, and the house rules that no tool knows (tests/lint.lua).

LINT_C    = $(wildcard host/*.c host/*.h tests/unit/*.c tests/unit/*.h tests/fuzz/*.c tests/fixture/*.c tests/bench/*.c)
LINT_LUA  = $(sort $(shell find stdlib scripts config tests -name '*.lua' 2>/dev/null))
TIDY_C    = $(HOST_C) $(UNIT_C)

.PHONY: lint lint-format lint-tidy lint-cppcheck lint-luacheck lint-house lint-types format compdb
lint: deps-build deps-lint ## clang-format, clang-tidy, cppcheck, luacheck, types, the rules of the house
	@$(MAKE) -s -k lint-format lint-luacheck lint-types lint-house lint-cppcheck lint-tidy && echo "lint: clean"

lint-format:
	@clang-format --dry-run -Werror $(LINT_C)

lint-luacheck:
	@luacheck --no-color -q $(LINT_LUA)

# Whether the annotations are true. Debian does not have the checker: it is built once, from the crate and the lock file
# of this version, into a folder outside the tree, and needs cargo of a current Rust.
EMMYLUA := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/moontide/emmylua_check-0.25.1
$(EMMYLUA)/bin/emmylua_check:
	@command -v cargo >/dev/null || { echo "lint-types: install Rust's cargo, at least 1.88: the checker is built with it"; exit 1; }
	@echo "lint-types: building emmylua_check 0.25.1 into $(EMMYLUA), once: some minutes"
	@CARGO_BUILD_JOBS=$(JOBS) cargo install -q --locked --version 0.25.1 --root $(EMMYLUA) emmylua_check
lint-types: $(EMMYLUA)/bin/emmylua_check ## say where an annotation and the code differ
	@$< . --warnings-as-errors
	@$(MAKE) -s -j$(JOBS) all
	@$(OUT)/moontide exec tests/one.lua tests/lint/stubs_test.lua

lint-house:
	@$(MAKE) -s -j$(JOBS) all
	@$(OUT)/moontide exec tests/lint.lua

lint-cppcheck:
	@cppcheck -q -j $(JOBS) --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	  --suppress=missingIncludeSystem -D_GNU_SOURCE --library=tests/lint/raises.cfg -Ihost host

# A stamp for each file: the analyser is slow, and most files did not change.
TIDY_STAMPS := $(TIDY_C:%=$(BUILD)/tidy/%.ok)
lint-tidy: compdb
	@$(MAKE) -s -k -j$(JOBS) $(TIDY_STAMPS)
$(BUILD)/tidy/%.ok: % .clang-tidy $(wildcard host/*.h)
	@mkdir -p $(@D)
	@clang-tidy -p . --quiet $< >$@.log 2>&1 || { grep -hE 'error:|warning:' $@.log; exit 1; }
	@touch $@

format: ## let clang-format rewrite the C files
	clang-format -i $(LINT_C)

# JSON needs the flags one by one; none of them holds a space or a quote.
compdb: ## write compile_commands.json for editors and clang-tidy
	@{ echo '['; sep=; for f in $(TIDY_C); do \
	  printf '%s{"directory":"%s","file":"%s","arguments":["$(CC)"' "$$sep" "$(CURDIR)" "$$f"; \
	  for a in $(filter-out -D%' -D%",$(ALL_CFLAGS)) -Ihost '-DMOONTIDE_VERSION=\"lint\"' -c "$$f"; do printf ',"%s"' "$$a"; done; \
	  printf ']}'; sep=$$(printf ',\n.'); sep=$${sep%.}; done; echo; echo ']'; } >compile_commands.json
