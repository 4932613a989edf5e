# Proof: what runs, in which variant. Everything itself is Lua or C below tests/.

UNIT_C := $(wildcard tests/unit/*_test.c)
UNITS  := $(UNIT_C:tests/unit/%.c=$(OUT)/unit/%)

.PHONY: units sweep fault cov

units: $(UNITS) fixtures ## build the C unit tests, and the programs that tests talk to
$(OUT)/unit/%: tests/unit/%.c tests/unit/unit.h $(LIB_O)
	@mkdir -p $(@D)
	@echo "  CC  $<"
	@$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -Ihost -o $@ $< $(LIB_O) $(LUA_LIBS) $(or $(PKG_LIBS_$(V)),$(PKG_LIBS))

fault: ## fail each allocation of each primitive in turn (V=fault)
	@$(MAKE) -s -j$(JOBS) V=fault all fixtures
	@set -e; for f in $(wildcard tests/fault/*.lua); do $(BUILD)/fault/moontide exec $$f; done

sweep: ## SIGKILL the host at every journal write and effect, restart, compare
	@$(MAKE) -s -j$(JOBS) all
	@$(OUT)/moontide exec tests/sweep.lua $(SWEEP)

cov: deps deps-cov ## line and branch coverage of the C rooms by the whole test run
	@$(MAKE) -s -j$(JOBS) V=cov all units
	@find $(BUILD)/cov -name '*.gcda' -delete
	@$(BUILD)/cov/moontide exec tests/run.lua $(T)
	@lcov -q -c -d $(BUILD)/cov -b . --no-external --rc lcov_branch_coverage=1 -o $(BUILD)/cov/all.info
	@lcov -q -e $(BUILD)/cov/all.info '*/host/*' --rc lcov_branch_coverage=1 -o $(BUILD)/cov/host.info
	@lcov -l $(BUILD)/cov/host.info --rc lcov_branch_coverage=1
