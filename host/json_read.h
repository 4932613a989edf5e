/* JSON texts as Lua values: strict (RFC 8259); keeps integers, null and empty lists, refuses duplicate keys.
 */
#ifndef MOONTIDE_JSON_READ_H
#define MOONTIDE_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <lua.h>
#include "err.h"

/* Pushes the value that the string at `index` stands for. Whole numbers become integers as far as 64 bits
 * hold them, others doubles; null becomes the sentinel of value_lua.h, or nothing with `null_as_nil`. False:
 * *e says why, *offset where, counted from 1; the stack is left as it is. raises (memory only) */
bool json_read(lua_State *L, int index, bool null_as_nil, struct err *e, size_t *offset);

#endif
