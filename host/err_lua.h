/* Failures as Lua sees them: the one error table {code=, op=, target=, message=, cause=}, and how to raise
 * it.
 */
#ifndef MOONTIDE_ERR_LUA_H
#define MOONTIDE_ERR_LUA_H

#include <lua.h>
#include <lauxlib.h>
#include "err.h"

/* Marks a function that always leaves by a Lua error; its result is only for `return err_raise(...)`. Any
 * other function that takes L may raise, for want of memory at least, unless its comment says that it never
 * does. */
#define RAISES __attribute__((noreturn))

/* Lua's own headers lack the attribute. */
RAISES int(lua_error)(lua_State *L);
RAISES int(luaL_error)(lua_State *L, const char *fmt, ...);
RAISES int(luaL_argerror)(lua_State *L, int arg, const char *extramsg);
RAISES int(luaL_typeerror)(lua_State *L, int arg, const char *tname);

/* Pushes the error table. `target` (a URL, a path, a program) may be NULL. Secrets never belong in it. */
void err_push(lua_State *L, const struct err *e, const char *op, const char *target);

/* Pushes nil and the error table; returns 2, for `return err_return(...)`. */
int err_return(lua_State *L, const struct err *e, const char *op, const char *target);

/* Raises the error table. */
RAISES int err_raise(lua_State *L, const struct err *e, const char *op, const char *target);

/* Short forms with a formatted message. */
int err_fail(lua_State *L, enum err_code code, const char *op, const char *target, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
RAISES int err_throw(lua_State *L, enum err_code code, const char *op, const char *target, const char *fmt,
                     ...) __attribute__((format(printf, 5, 6)));

/* Makes the metatable of error tables ("moontide.error"): __tostring, __concat, __name. Called once. */
void err_register(lua_State *L);

#endif
