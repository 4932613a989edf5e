/* The openers of every core table, one per api_*.c. Only host.c calls them; api files never include each
 * other. */
#ifndef MOONTIDE_API_H
#define MOONTIDE_API_H

#include <stdbool.h>
#include <lua.h>

int luaopen_core_fs(lua_State *L);
int luaopen_core_gzip(lua_State *L);
int luaopen_core_hash(lua_State *L);
int luaopen_core_http(lua_State *L);
int luaopen_core_json(lua_State *L);
int luaopen_core_log(lua_State *L);
int luaopen_core_proc(lua_State *L);
int luaopen_core_semver(lua_State *L);
int luaopen_core_serve(lua_State *L);
int luaopen_core_signal(lua_State *L);
int luaopen_core_store(lua_State *L);
int luaopen_core_sys(lua_State *L);
int luaopen_core_task(lua_State *L);
int luaopen_core_time(lua_State *L);
int luaopen_core_yaml(lua_State *L);

/* Budgeted string matching and bounded table functions over the stock libraries (api_text.c). */
void text_register(lua_State *L);
void tables_register(lua_State *L);

/* setmetatable, print, and the coroutine functions that the watchdog needs to know of (api_base.c). */
void base_register(lua_State *L);

/* Closers of services that have no header of their own; each accepts a host that never opened the service. */
struct host;
void signal_close_all(struct host *host);

/* Whether those that are caught count as work outside: they keep the loop waiting. */
void signals_count(struct host *host, bool count);

/* The part of core.sys that has a module of its own; adds its functions to the table on top. */
void load_register(lua_State *L); /* api_load.c: sys.embedded, compile, module, slurp */

#endif
