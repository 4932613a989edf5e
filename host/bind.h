/* Helpers that every api_*.c binding uses: arguments, option tables, handles.
 *
 * All of these raise Lua errors on a programmer's mistake; they never report a failure of the environment
 * (err_lua.h does). A table of a script is only read raw: its metamethods could free a string, or change a
 * field, whose pointer or value is kept already. */
#ifndef MOONTIDE_BIND_H
#define MOONTIDE_BIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <lua.h>
#include <lauxlib.h>
#include "err_lua.h"

struct host;

/* The host that owns this Lua state. Never fails. */
struct host *bind_host(lua_State *L);

/* Raises a text with the position of the script's line: the innermost Lua function that is not
 * of the stdlib. */
RAISES int bind_error(lua_State *L, const char *fmt, ...);

/* Raises "usage: http.get(url [, opts])" with that position. */
RAISES int bind_usage(lua_State *L, const char *usage);

/* A string argument without embedded NUL bytes: for paths, program arguments, header values. */
const char *bind_text(lua_State *L, int arg, const char *usage);

/* Makes what the table at `index` holds stay while it is on the stack: one with a metatable, which may be
 * weak, is replaced there by a plain copy. Anything else is left as it is. */
void bind_plain(lua_State *L, int index);

/* Pushes the raw field of the table at `index`; returns its type. */
int bind_field(lua_State *L, int index, const char *name);

/* Checks that `arg` is nil/none or a table whose string keys are all in `known` (NULL-terminated), and makes
 * it plain. An unknown key raises with the closest known one as a suggestion. Returns true when there is a
 * table. */
bool bind_options(lua_State *L, int arg, const char *usage, const char *const known[]);

/* Options of one name, read raw; `arg` may be nil. Wrong types raise and name the option. Strings with NUL
 * raise. The returned strings belong to the table: keep it on the stack, and call nothing that may run a
 * script before they are copied. */
const char *bind_opt_text(lua_State *L, int arg, const char *name, const char *fallback);
const char *bind_opt_bytes(lua_State *L, int arg, const char *name, size_t *len);
lua_Number bind_opt_number(lua_State *L, int arg, const char *name, lua_Number fallback);
lua_Integer bind_opt_integer(lua_State *L, int arg, const char *name, lua_Integer fallback);
bool bind_opt_bool(lua_State *L, int arg, const char *name, bool fallback);

/* Seconds (as scripts give them) to whole milliseconds, at least 0, saturating: never less than was asked
 * for. */
uint64_t bind_millis(lua_Number seconds);

/* Registers a handle class: its metatable gets `methods` as __index, the metamethods, __name and __metatable.
 * Either may be NULL. Leaves the stack as it was. */
void bind_class(lua_State *L, const char *name, const luaL_Reg *methods, const luaL_Reg *metamethods);

/* The same for handles whose only metamethods are __close and __gc, which are one function. */
void bind_closable(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close);

/* A zeroed userdata of the class on top of the stack: create it, then acquire the resource into it. */
void *bind_new(lua_State *L, size_t size, const char *name);

/* The userdata at `arg`, or raises. Whether it is closed is the class's own business. */
void *bind_self(lua_State *L, int arg, const char *name);

/* Finds the innermost line that is not of the program's own Lua (short_src and currentline), else the
 * innermost line at all. False: there is none. Never raises. */
bool bind_script_line(lua_State *L, lua_Debug *ar);

#endif
