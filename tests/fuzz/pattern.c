/* Patterns against the stock string library: a byte that chooses, a line of pattern, a line of replacement,
 * then the text. Stock is asked only when ours needs few steps, since it has no budget of its own. */
#include "fuzz.h"
#include <lauxlib.h>
#include <lualib.h>
#include "api.h"
#include "err.h"
#include "pattern.h"

enum { STEPS = 20000 };

static const char COMPARE[] =
    "local ours, stock, pcall, tostring, type, pack = string, stock, pcall, tostring, type, table.pack\n"
    "local gsub, concat, find = stock.gsub, table.concat, stock.find\n"
    "local function outcome(f, ...)\n"
    "  local r = pack(pcall(f, ...))\n"
    "  for i = 1, r.n do r[i] = (math.type(r[i]) or type(r[i])) .. ' ' .. gsub(tostring(r[i]), '^[^:]*:%d+: "
    "', '') end\n"
    "  return concat(r, '\\1', 1, r.n)\n"
    "end\n"
    "local function walk(gmatch, s, p, init)\n"
    "  local t = {}\n"
    "  for a, b, c in gmatch(s, p, init) do\n"
    "    t[#t + 1] = tostring(a) .. '\\1' .. tostring(b) .. '\\1' .. tostring(c)\n"
    "  end\n"
    "  return concat(t, '\\2')\n"
    "end\n"
    "local calls = {\n"
    "  find = function(lib, s, p, r, n) return lib.find(s, p, n) end,\n"
    "  plain = function(lib, s, p, r, n) return lib.find(s, p, n, true) end,\n"
    "  match = function(lib, s, p, r, n) return lib.match(s, p, n) end,\n"
    "  gsub = function(lib, s, p, r, n) return lib.gsub(s, p, r, n > 0 and n or nil) end,\n"
    "  call = function(lib, s, p, r, n) return lib.gsub(s, p, function(...) return pack(...).n .. "
    "tostring(...) end) end,\n"
    "  gmatch = function(lib, s, p, r, n) return walk(lib.gmatch, s, p, n) end,\n"
    "}\n"
    "return function(s, p, r, n)\n"
    "  for name, call in pairs(calls) do\n"
    "    local a, b = outcome(call, ours, s, p, r, n), outcome(call, stock, s, p, r, n)\n"
    "    if a ~= b and not find(b, 'pattern too complex', 1, true) then\n"
    "      return stock.format('%s(%q, %q, %q, %d): ours %q, stock %q', name, s, p, r, n, a, b)\n"
    "    end\n"
    "  end\n"
    "end\n";

static lua_State *state_open(void)
{
    lua_State *L = luaL_newstate();

    HOLDS(L);
    luaL_openlibs(L);
    err_register(L);
    HOLDS(luaL_dostring(L, "stock = {} for k, v in pairs(string) do stock[k] = v end") == LUA_OK);
    text_register(L);
    tables_register(L);
    HOLDS(luaL_dostring(L, COMPARE) == LUA_OK);
    return L;
}

/* Whether finding all matches takes few steps; also walks the matcher without Lua in between. */
static bool is_cheap(struct fuzz_piece p, struct fuzz_piece text)
{
    struct pattern pattern;
    struct pattern_match m = {.text = text.data, .len = text.len, .budget = STEPS};
    void *room = malloc(pattern_room(p.data, p.len));
    size_t at = 0, not_end = SIZE_MAX;

    HOLDS(room);
    for (int anchors = 0; anchors < 2; anchors++) {
        pattern_compile(&pattern, room, p.data, p.len, anchors);
        at = 0;
        not_end = SIZE_MAX;
        while (at <= text.len && pattern_search(&pattern, &m, at, not_end)) {
            HOLDS(m.start >= at && m.start <= m.end && m.end <= text.len && m.end != not_end);
            at = not_end = m.end;
        }
    }
    free(room);
    return m.fault != PATTERN_BUDGET && m.budget > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    struct fuzz_input in = {(const char *)data, (const char *)data + size};
    struct fuzz_piece pattern, replacement, text;
    int choice;

    if (!L)
        L = state_open();
    if (!size)
        return 0;
    choice = (signed char)*in.at++;
    pattern = fuzz_line(&in);
    replacement = fuzz_line(&in);
    text = (struct fuzz_piece){in.at, (size_t)(in.end - in.at)};
    if (!is_cheap(pattern, text))
        return 0;
    lua_pushvalue(L, 1);
    lua_pushlstring(L, text.data, text.len);
    lua_pushlstring(L, pattern.data, pattern.len);
    lua_pushlstring(L, replacement.data, replacement.len);
    lua_pushinteger(L, choice % 20);
    if (lua_pcall(L, 4, 1, 0) != LUA_OK || !lua_isnil(L, -1)) {
        fprintf(stderr, "%s\n", luaL_tolstring(L, -1, NULL));
        abort();
    }
    lua_settop(L, 1);
    return 0;
}
