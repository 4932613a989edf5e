# Benchmarks: the peers in C, then tests/bench.lua, which drives all of them.

PEERS := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/*.c))
PEER_CFLAGS := -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Wshadow -Werror

.PHONY: bench-peers

bench-peers: $(PEERS)
$(BUILD)/bench/%: tests/bench/%.c
	@mkdir -p $(@D)
	$(CC) $(PEER_CFLAGS) $(PKG_CFLAGS) -Wl,--as-needed -o $@ $< $(LUA_LIBS) $(PKG_LIBS) -lssl
