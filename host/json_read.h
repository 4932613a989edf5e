/* Our own JSON reader: strict (RFC 8259); keeps integers, null and empty lists, refuses duplicate keys. */
#ifndef MOONTIDE_JSON_READ_H
#define MOONTIDE_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <lua.h>
#include "err.h"

#define JSON_NUMBER_MAX 64 /* bytes of one number */

/* Pushes the value that `text` stands for; `text` is a Lua string (it has a NUL behind it) and stays on the
 * stack. Whole numbers become integers as far as 64 bits hold them, others doubles; null becomes the sentinel
 * of value_lua.h, or nothing with `null_as_nil`. False: *e says why, *offset where, counted from 1; the stack
 * is left as it is. raises (memory only) */
bool json_read(lua_State *L, const char *text, size_t len, bool null_as_nil, struct err *e, size_t *offset);

#endif
