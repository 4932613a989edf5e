/* Plain values as Lua holds them: what JSON, YAML and SQLite agree on.
 *
 * One null sentinel that prints as "null", one marker metatable that keeps an empty list a list, one answer
 * to "is this table a list or an object", one order of keys. Nothing here keeps C memory. */
#ifndef MOONTIDE_VALUE_LUA_H
#define MOONTIDE_VALUE_LUA_H

#include <stdbool.h>
#include <stddef.h>
#include <lua.h>
#include "value.h"

/* Pushes the one null of this Lua state; tells whether a value is it (never raises). */
void value_push_null(lua_State *L);
bool value_is_null(lua_State *L, int index);

/* Pushes the metatable that marks lists. */
void value_push_mark(lua_State *L);

/* Marks the table at `index` as a list, so that it stays one when it is empty; tells whether
 * it is marked (never raises). */
void value_mark_array(lua_State *L, int index);
bool value_is_array(lua_State *L, int index);

enum value_shape {
    VALUE_ARRAY,   /* keys 1..n, or empty and marked */
    VALUE_OBJECT,  /* string keys only, or empty and not marked */
    VALUE_MIXED,   /* integer and string keys */
    VALUE_HOLES,   /* integer keys that are not 1..n */
    VALUE_BAD_KEY, /* a key of another type */
};

/* Tells what the table is, by raw access; *count is the number of its entries. One with a metatable is
 * replaced at `index` by a plain copy (bind.h), so that its keys live while it is on the stack. */
enum value_shape value_shape(lua_State *L, int index, size_t *count);

/* In words, for an error message; NULL for the two good shapes. */
const char *value_shape_fault(enum value_shape shape);

struct value_key {
    const char *text; /* belongs to the table */
    size_t len;
};

/* Pushes a userdata that holds the `count` keys of an object, sorted by their bytes. The keys live while the
 * table is on the stack unchanged. */
const struct value_key *value_keys(lua_State *L, int index, size_t count);

/* Prints the number at `index` as JSON and YAML want it: whole numbers without a fraction, whether Lua holds
 * them as integer or float, others with the fewest digits that read back the same. Returns its length, 0 for
 * NaN and infinities. */
#define VALUE_NUMBER_SIZE 40
size_t value_number(lua_State *L, int index, char text[VALUE_NUMBER_SIZE]);

#endif
