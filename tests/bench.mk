# Benchmarks: the peers in C, then tests/bench.lua, which drives all of them.

PEERS := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/*.c))
PEER_CFLAGS := -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Wshadow -Werror

.PHONY: bench bench-peers
# B7 needs the parts of a cluster; building them takes minutes the first time.
bench: deps deps-bench $(if $(filter-out B7 b7,$(B)),$(if $(filter B7 b7,$(B)),cluster-build),cluster-build) ## measure against peers in the same run (BENCH=quick, B="B1 B3" for some)
	@$(MAKE) -s -j$(JOBS) V=release all bench-peers
	@$(BUILD)/release/moontide exec tests/bench.lua $(if $(filter quick,$(BENCH)),--quick) $(B)

bench-peers: $(PEERS)
$(BUILD)/bench/%: tests/bench/%.c
	@mkdir -p $(@D)
	$(CC) $(PEER_CFLAGS) $(PKG_CFLAGS) -Wl,--as-needed -o $@ $< $(LUA_LIBS) $(PKG_LIBS) -lssl
