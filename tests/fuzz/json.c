/* JSON: whatever is read can be written; what is written reads back as the same text. */
#include "fuzz_lua.h"
#include "api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *first, *again;
    lua_State *L = fuzz_lua(luaopen_core_json);

    lua_pushlstring(L, (const char *)data, size);
    if (fuzz_call(L, "decode", 1) == 2) {
        const char *code = fuzz_code(L);

        HOLDS(strcmp(code, "invalid") == 0 || strcmp(code, "too_large") == 0);
        return fuzz_close(L);
    }
    lua_settop(L, 1);
    fuzz_starve(L, "decode", data, size);
    lua_pushlstring(L, (const char *)data, size);
    HOLDS(fuzz_call(L, "decode", 1) == 1);
    HOLDS(fuzz_call(L, "encode", 1) == 1); /* core, text */
    lua_pushvalue(L, -1);
    HOLDS(fuzz_call(L, "decode", 1) == 1);
    HOLDS(fuzz_call(L, "encode", 1) == 1); /* core, text, text */
    first = lua_tostring(L, 2);
    again = lua_tostring(L, 3);
    HOLDS(first && again && strcmp(first, again) == 0);
    return fuzz_close(L);
}
