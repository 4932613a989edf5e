/* Configurations: the first line of an input says lua, json or yaml, the rest is the file. Whatever it is, it
 * becomes a configuration or a list of faults that can be printed, twice the same, and nothing is raised. */
#include "fuzz.h"
#include <lauxlib.h>
#include <lua.h>
#include "host.h"

static const char script[] =
    "local require = ...\n"
    "local config, inspect = require 'config.load', require 'base.inspect'\n"
    "local function load_once(text, name)\n"
    "  local value, found = config.parse(text, name)\n"
    "  if value == nil then return nil, found end\n"
    "  return config.check(value, { file = name, line = found, dir = '/' })\n"
    "end\n"
    "local function check(text, name)\n"
    "  local loaded, faults = load_once(text, name)\n"
    "  local again, others = load_once(text, name)\n"
    "  if loaded then\n"
    "    assert(again and type(loaded.app_list) == 'table' and type(loaded.poll) == 'number')\n"
    "    inspect.text(loaded)\n"
    "    return\n"
    "  end\n"
    "  assert(not again and #faults > 0 and #faults <= 200 and #faults == #others)\n"
    "  for i, fault in ipairs(faults) do\n"
    "    local words = config.describe(fault)\n"
    "    assert(not words:find('%c'), words)\n"
    "    assert(words == config.describe(others[i]) or name:find('lua'), words)\n"
    "  end\n"
    "end\n"
    "return function(text, name)\n"
    "  return function()\n"
    "    local ok, err = pcall(check, text, name)\n"
    "    if ok then return 0 end\n"
    "    require('base.sys').write(2, tostring(err) .. '\\n')\n"
    "    return 1\n"
    "  end\n"
    "end\n";

static struct host host;

/* Opens the host once and leaves the function of `script` on its stack. */
static void open_host(void)
{
    static char name[] = "fuzz";
    static char *argv[] = {name, NULL};
    const char *message = "";
    const char *upvalue;

    if (!host_open(&host, 1, argv, &message)) {
        fprintf(stderr, "%s\n", message);
        abort();
    }
    /* What host_open left is the prelude's start of main; it holds the stdlib's require. */
    upvalue = lua_getupvalue(host.L, -1, 1);
    HOLDS(upvalue && lua_isfunction(host.L, -1));
    HOLDS(luaL_loadbufferx(host.L, script, sizeof script - 1, "=fuzz", "t") == LUA_OK);
    lua_insert(host.L, -2);
    lua_call(host.L, 1, 1);
    lua_remove(host.L, -2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const kinds[] = {"lua", "json", "yaml"};
    struct fuzz_input in = {(const char *)data, (const char *)data + size};
    struct fuzz_piece head = fuzz_line(&in);
    char name[16] = "x.yaml";

    if (!host.L)
        open_host();
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (head.len == strlen(kinds[i]) && memcmp(head.data, kinds[i], head.len) == 0)
            snprintf(name, sizeof name, "x.%s", kinds[i]);
    lua_pushvalue(host.L, -1);
    lua_pushlstring(host.L, in.at, (size_t)(in.end - in.at));
    lua_pushstring(host.L, name);
    lua_call(host.L, 2, 1);
    HOLDS(host_run(&host) == 0);
    return 0;
}
