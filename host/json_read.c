/* JSON reader: lua-cjson decodes what json_scan has accepted.
 *
 * Some functions that cjson calls are led to this file when the program is linked (Makefile, CJSON_CALLS), so
 * that what it would lose is put right where it is made: whole numbers are read from the text, tables are
 * made for as many entries as the scan has counted, lists are marked, and duplicate keys are noticed. What
 * the scan counted and what these functions saw has to agree in the end. */
#include "json_read.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <lauxlib.h>
#include <lua-cjson.h>
#include "err_lua.h"
#include "json_scan.h"
#include "value_lua.h"

enum { SMALL = 1024 }; /* bytes on the C stack, enough for most texts */

/* What cjson calls. */
double json_strtod(const char *start, char **end);
void *json_malloc(size_t size);
void json_free(void *ptr);
void json_createtable(lua_State *L, int items, int members);
void json_pushlightuserdata(lua_State *L, void *ptr);
void json_pushnumber(lua_State *L, lua_Number value);
void json_rawset(lua_State *L, int index);

struct decode {
    lua_State *L;
    struct json_scan scan;
    struct json_tally seen;
    char *small; /* SMALL bytes of memory for cjson, the first `used` of which it has */
    size_t used;
    void *large;          /* the block that found no place there */
    const char *infinite; /* a number that is out of range */
    size_t duplicate;     /* the first member whose key was there, counted as in json_scan */
    lua_Number number;    /* the one that was read last; it is `integer` when it is whole */
    lua_Integer integer;
    bool whole, null_as_nil;
    lua_Integer holes; /* entries of the list of members that have to go, in the registry by this address */
};

/* The innermost one: a finalizer that Lua runs meanwhile may decode another text. */
static struct decode *decoding;

/* Memory for cjson's buffer until the end of the decode, however that ends: first a struct, then what it
 * points to. Outside of a decode cjson only makes the buffer of its encoder, which nobody calls. raises */
void *json_malloc(size_t size)
{
    static _Alignas(max_align_t) char idle[1024];
    struct decode *d = decoding;
    void *block;

    if (!d)
        return size <= sizeof idle ? idle : NULL;
    if (size <= SMALL - d->used) {
        block = d->small + d->used;
        d->used += (size + 15) / 16 * 16;
        return block;
    }
    block = d->large ? NULL : malloc(size);
    if (!block)
        err_throw(d->L, ERR_MEMORY, "json.decode", NULL, "no memory for a text of %zu bytes", size);
    return d->large = block;
}

void json_free(void *ptr)
{
    (void)ptr;
}

static void give_back(struct decode *d)
{
    free(d->large);
    buf_free(&d->scan.notes);
}

/* Reads digits into *value as far as they fit; returns how many there are. */
static size_t read_digits(const char **at, uint64_t *value)
{
    const char *start = *at;

    for (; **at >= '0' && **at <= '9'; (*at)++)
        *value = *value * 10 + (uint64_t)(**at - '0');
    return (size_t)(*at - start);
}

/* Reads the number at `start`, which is in the text itself. Up to 15 digits and their power of ten are exact
 * doubles, so one division rounds as strtod would. */
double json_strtod(const char *start, char **end)
{
    static const double powers[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6, 1e7,
                                    1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14};
    struct decode *d = decoding;
    bool negative = *start == '-', exponent;
    const char *at = start + negative;
    uint64_t digits = 0;
    size_t count = read_digits(&at, &digits), parts = 0; /* digits before and behind the point */

    if (*at == '.') {
        at++;
        parts = read_digits(&at, &digits);
    }
    exponent = *at == 'e' || *at == 'E';
    if (exponent || count + parts > 15) {
        d->number = strtod(start, end);
    } else {
        *end = (char *)(uintptr_t)at;
        d->number = (double)(int64_t)digits / powers[parts];
        d->number = negative ? -d->number : d->number;
    }
    if (exponent || parts) {
        d->whole = lua_numbertointeger(d->number, &d->integer) && (double)d->integer == d->number;
        if (isinf(d->number) && !d->infinite)
            d->infinite = start;
    } else if (count <= 18) {
        d->whole = true;
        d->integer = negative ? -(int64_t)digits : (int64_t)digits;
    } else {
        errno = 0;
        d->integer = strtoll(start, NULL, 10);
        d->whole = !errno;
    }
    return d->number;
}

void json_pushnumber(lua_State *L, lua_Number value)
{
    struct decode *d = decoding;

    d->seen.numbers += value == d->number;
    if (d->whole)
        lua_pushinteger(L, d->integer);
    else
        lua_pushnumber(L, value);
}

void json_createtable(lua_State *L, int items, int members)
{
    struct decode *d = decoding;
    struct json_note note;
    int room;

    if (!d || ++d->seen.containers > d->scan.tally.containers) {
        lua_createtable(L, items, members);
        return;
    }
    memcpy(&note, d->scan.notes.data + d->seen.containers - 1, sizeof note);
    room = (int)(1U << note.log >> 1);
    luaL_checkstack(L, 8, "json"); /* for cjson and these functions */
    lua_createtable(L, note.list ? room : 0, note.list ? 0 : room);
    if (note.list)
        value_mark_array(L, -1);
}

/* Below a null lies its list, its key, or, when it is all of the text, the text. */
void json_pushlightuserdata(lua_State *L, void *ptr)
{
    if (!decoding) {
        lua_pushlightuserdata(L, ptr);
        return;
    }
    decoding->seen.nulls++;
    if (decoding->null_as_nil && (lua_gettop(L) == 1 || lua_istable(L, -1)))
        lua_pushnil(L);
    else
        value_push_null(L);
}

/* Keeps the object and the key of a null, which is removed when all is read: until then its key must be
 * there, so that a second one is noticed. */
static void note_hole(lua_State *L, struct decode *d)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, d) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, d);
    } /* object, key, null, holes */
    lua_pushvalue(L, -4);
    lua_rawseti(L, -2, ++d->holes);
    lua_pushvalue(L, -3);
    lua_rawseti(L, -2, ++d->holes);
    lua_pop(L, 1);
}

void json_rawset(lua_State *L, int index)
{
    struct decode *d = decoding;

    d->seen.members++;
    lua_pushvalue(L, -2);
    if (lua_rawget(L, index - 1) != LUA_TNIL && !d->duplicate)
        d->duplicate = d->seen.members;
    lua_pop(L, 1);
    if (d->null_as_nil && lua_type(L, -1) == LUA_TUSERDATA)
        note_hole(L, d);
    lua_rawset(L, index);
}

static void remove_holes(lua_State *L, const struct decode *d)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, d);
    for (lua_Integer i = 1; i < d->holes; i += 2) {
        lua_rawgeti(L, -1, i);
        lua_rawgeti(L, -2, i + 1);
        lua_pushnil(L);
        lua_rawset(L, -3);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void push_decoder(lua_State *L)
{
    static const char key;

    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) != LUA_TNIL)
        return;
    lua_pop(L, 1);
    lua_pushcfunction(L, luaopen_cjson);
    lua_call(L, 0, 1);
    lua_getfield(L, -1, "decode");
    lua_replace(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
}

/* Calls cjson's decoder on the text; both are on top of the stack. raises (memory only) */
static bool decode(lua_State *L, struct decode *d, struct err *e)
{
    struct decode *outer = decoding;
    int status;

    decoding = d;
    status = lua_pcall(L, 1, 1, 0);
    decoding = outer;
    if (d->holes) {
        if (status == LUA_OK)
            remove_holes(L, d);
        lua_pushnil(L);
        lua_rawsetp(L, LUA_REGISTRYINDEX, d);
    }
    if (status == LUA_OK && memcmp(&d->seen, &d->scan.tally, sizeof d->seen) == 0)
        return true;
    if (status == LUA_ERRMEM || (status != LUA_OK && lua_istable(L, -1))) { /* the latter is of json_malloc */
        give_back(d);
        lua_error(L);
    }
    err_set(e, ERR_INTERNAL, "lua-cjson read the text otherwise than the scan before it");
    return false;
}

bool json_read(lua_State *L, int index, bool null_as_nil, struct err *e, size_t *offset)
{
    _Alignas(max_align_t) char small[SMALL];
    struct decode d = {.L = L, .small = small, .null_as_nil = null_as_nil};
    size_t len;
    const char *text = lua_tolstring(L, index, &len);
    bool ok;

    luaL_checkstack(L, 8, "json");
    lua_pushvalue(L, index);
    push_decoder(L);
    lua_insert(L, -2);
    *offset = 1;
    if (len >= INT_MAX) { /* cjson counts so */
        err_set(e, ERR_TOO_LARGE, "the text has 2 GiB");
        return false;
    }
    ok = json_scan(&d.scan, text, len, 0, e, offset) && decode(L, &d, e);
    if (ok && d.infinite) {
        *offset = (size_t)(d.infinite - text) + 1;
        err_set(e, ERR_INVALID, "number out of range at byte %zu", *offset);
        ok = false;
    } else if (ok && d.duplicate) {
        ok = json_scan(&d.scan, text, len, d.duplicate, e, offset);
    }
    give_back(&d);
    return ok;
}
