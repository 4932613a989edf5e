/* For the analyser only: these leave by longjmp, which Lua's headers do not say. */
#ifndef MOONTIDE_LINT_RAISES_H
#define MOONTIDE_LINT_RAISES_H

#include <lua.h>
#include <lauxlib.h>
#include "../../host/err.h"

#define NEVER_RETURNS __attribute__((analyzer_noreturn))

NEVER_RETURNS int(lua_error)(lua_State *L);
NEVER_RETURNS int(luaL_error)(lua_State *L, const char *fmt, ...);
NEVER_RETURNS int(luaL_argerror)(lua_State *L, int arg, const char *extramsg);
NEVER_RETURNS int(luaL_typeerror)(lua_State *L, int arg, const char *tname);
NEVER_RETURNS int bind_usage(lua_State *L, const char *usage);
NEVER_RETURNS int err_raise(lua_State *L, const struct err *e, const char *op, const char *target);
NEVER_RETURNS int err_throw(lua_State *L, enum err_code code, const char *op, const char *target,
                            const char *fmt, ...);

#endif
