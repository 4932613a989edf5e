/* YAML: whatever is read can be written; what is written reads back as the same documents. */
#include "fuzz_lua.h"
#include "api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *first, *again;
    lua_State *L = fuzz_lua(luaopen_core_yaml);

    lua_pushlstring(L, (const char *)data, size);
    lua_createtable(L, 0, 2);
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "marks");
    lua_pushinteger(L, 20000);
    lua_setfield(L, -2, "nodes");
    HOLDS(fuzz_call(L, "decode_all", 2) == 2);
    if (lua_isnil(L, 2)) {
        const char *code = fuzz_code(L);

        HOLDS(strcmp(code, "invalid") == 0 || strcmp(code, "too_large") == 0 ||
              strcmp(code, "unsupported") == 0);
        return fuzz_close(L);
    }
    lua_settop(L, 2);
    if (fuzz_call(L, "encode_all", 1) == 2) {
        HOLDS(strcmp(fuzz_code(L), "too_large") == 0);
        return fuzz_close(L);
    }
    lua_pushvalue(L, -1); /* core, text, text */
    if (fuzz_call(L, "decode_all", 1) != 1 || lua_isnil(L, 3)) {
        /* only what aliases had blown up may be too much once it is spelled out */
        HOLDS(strcmp(fuzz_code(L), "too_large") == 0);
        return fuzz_close(L);
    }
    HOLDS(fuzz_call(L, "encode_all", 1) == 1);
    first = lua_tostring(L, 2);
    again = lua_tostring(L, 3);
    HOLDS(first && again && strcmp(first, again) == 0);
    lua_settop(L, 1);
    fuzz_starve(L, "decode_all", data, size);
    return fuzz_close(L);
}
