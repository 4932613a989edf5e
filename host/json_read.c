/* JSON reader: one pass from text to values, no deeper than VALUE_DEPTH.
 *
 * The first entries of a list or object wait on the Lua stack, so that most tables are made in their final
 * size. The NUL behind the text ends every loop, since it is part of no token. */
#include "json_read.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <lauxlib.h>
#include "codec.h"
#include "json_text.h"
#include "value_lua.h"

enum { WAITING = 16 }; /* entries on the stack */

struct reader {
    lua_State *L;
    const char *text, *at, *end;
    struct err *err;
    size_t *offset;
    int null, mark; /* stack indices: what stands for null, the metatable that marks lists */
    unsigned depth;
    bool null_as_nil;
};

static bool read_value(struct reader *r, const char *want);

static bool fault_at(struct reader *r, const char *where, enum err_code code, const char *what)
{
    *r->offset = (size_t)(where - r->text) + 1;
    err_set(r->err, code, "%s at byte %zu", what, *r->offset);
    return false;
}

static bool fault(struct reader *r, const char *what)
{
    return fault_at(r, r->at, ERR_INVALID, what);
}

static bool unexpected(struct reader *r, const char *want)
{
    unsigned char byte = (unsigned char)*r->at;
    char what[24];

    *r->offset = (size_t)(r->at - r->text) + 1;
    if (r->at == r->end)
        snprintf(what, sizeof what, "the text ends");
    else
        snprintf(what, sizeof what, byte > ' ' && byte < 0x7F ? "unexpected %c" : "unexpected byte 0x%02X",
                 byte);
    err_set(r->err, ERR_INVALID, "%s at byte %zu, want %s", what, *r->offset, want);
    return false;
}

static void skip_space(struct reader *r)
{
    while (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')
        r->at++;
}

/* Moves over bytes that stand for themselves, up to a quote or backslash. */
static bool skip_plain(struct reader *r)
{
    for (;;) {
        unsigned char c = (unsigned char)*r->at;

        if (c == '"' || c == '\\')
            return true;
        if (c < 0x20)
            return c == '\0' && r->at == r->end ? false : fault(r, "control character in a string");
        if (c < 0x80) {
            r->at++;
        } else {
            size_t run = 1, valid;

            while ((unsigned char)r->at[run] >= 0x80)
                run++;
            valid = utf8_prefix(r->at, run);
            r->at += valid;
            if (valid < run)
                return fault(r, "invalid UTF-8");
        }
    }
}

/* Pushes a string that has escapes; `start` is behind its opening quote, r->at at the first backslash. */
static bool read_escaped(struct reader *r, const char *start)
{
    luaL_Buffer out;
    char bytes[4];

    luaL_buffinit(r->L, &out);
    for (;;) {
        size_t n, used;

        luaL_addlstring(&out, start, (size_t)(r->at - start));
        if (*r->at == '"')
            break;
        n = json_unescape(bytes, r->at, (size_t)(r->end - r->at), &used);
        if (!n)
            return fault(r, used ? "unknown escape or lone surrogate" : "unfinished escape");
        luaL_addlstring(&out, bytes, n);
        r->at += used;
        start = r->at;
        if (!skip_plain(r))
            return false;
    }
    luaL_pushresult(&out);
    return true;
}

/* At the opening quote; ends behind the closing one. */
static bool read_string(struct reader *r)
{
    const char *open = r->at++;
    bool fine = skip_plain(r);

    if (fine && *r->at == '"')
        lua_pushlstring(r->L, open + 1, (size_t)(r->at - open - 1));
    else
        fine = fine && read_escaped(r, open + 1);
    if (!fine)
        return r->err->code != ERR_NONE ? false : fault_at(r, open, ERR_INVALID, "unfinished string");
    r->at++;
    return true;
}

/* Reads digits into *value as far as they fit; returns how many there are. */
static size_t read_digits(struct reader *r, uint64_t *value)
{
    const char *start = r->at;

    for (; *r->at >= '0' && *r->at <= '9'; r->at++)
        *value = *value * 10 + (uint64_t)(*r->at - '0');
    return (size_t)(r->at - start);
}

/* Reads what may follow a number's whole digits. *power is the power of ten that its digits are to be
 * multiplied with.
 */
static bool read_fraction(struct reader *r, uint64_t *digits, size_t *count, int *power)
{
    uint64_t exponent = 0;
    bool negative = false;

    if (*r->at == '.') {
        size_t n;

        r->at++;
        n = read_digits(r, digits);
        if (!n)
            return fault(r, "a fraction without digits");
        *count += n;
        *power = -(int)(n < 1000 ? n : 1000);
    }
    if (*r->at == 'e' || *r->at == 'E') {
        size_t n;

        r->at++;
        if (*r->at == '+' || *r->at == '-')
            negative = *r->at++ == '-';
        n = read_digits(r, &exponent);
        if (!n)
            return fault(r, "an exponent without digits");
        if (n > 4 || exponent > 1000)
            exponent = 1000;
        *power += negative ? -(int)exponent : (int)exponent;
    }
    return true;
}

/* The double of a number with fraction or exponent. Up to 15 digits and a power up to 22 are exact doubles,
 * so one operation rounds as strtod would. */
static double to_double(const char *start, uint64_t digits, size_t count, int power)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    double value;

    if (count > 15 || power > 22 || power < -22)
        return strtod(start, NULL);
    value = power < 0 ? (double)digits / powers[-power] : (double)digits * powers[power];
    return *start == '-' ? -value : value;
}

static bool read_number(struct reader *r)
{
    const char *start = r->at;
    uint64_t digits = 0;
    size_t count;
    int power = 0;
    lua_Integer integer;
    double value;
    bool whole;

    r->at += *r->at == '-';
    count = read_digits(r, &digits);
    if (!count)
        return fault(r, "a number without digits");
    if (count > 1 && r->at[-(ptrdiff_t)count] == '0')
        return fault_at(r, r->at - count, ERR_INVALID, "a number with a leading zero");
    whole = *r->at != '.' && *r->at != 'e' && *r->at != 'E';
    if (!whole && !read_fraction(r, &digits, &count, &power))
        return false;
    if (r->at - start > JSON_NUMBER_MAX)
        return fault_at(r, start, ERR_TOO_LARGE, "a number of more than 64 bytes");
    if (whole && count <= 18) {
        lua_pushinteger(r->L, *start == '-' ? -(lua_Integer)digits : (lua_Integer)digits);
        return true;
    }
    if (whole) {
        errno = 0;
        integer = strtoll(start, NULL, 10);
        if (!errno) {
            lua_pushinteger(r->L, integer);
            return true;
        }
    }
    value = to_double(start, digits, count, power);
    if (isinf(value))
        return fault_at(r, start, ERR_INVALID, "number out of range");
    if (!whole && lua_numbertointeger(value, &integer) && (double)integer == value)
        lua_pushinteger(r->L, integer);
    else
        lua_pushnumber(r->L, value);
    return true;
}

/* At an opening bracket or brace: moves to what follows it, and makes room for what waits on the stack. */
static bool enter(struct reader *r)
{
    if (r->depth == VALUE_DEPTH)
        return fault_at(r, r->at, ERR_TOO_LARGE, "nested deeper than 64 levels");
    r->depth++;
    luaL_checkstack(r->L, 2 * WAITING + 8, "json");
    lua_pushnil(r->L); /* the place of the table */
    r->at++;
    skip_space(r);
    return true;
}

/* Behind an entry: moves to the next one (*more), or behind the end of the list or object. */
static bool go_on(struct reader *r, char close, bool *more)
{
    skip_space(r);
    *more = *r->at == ',';
    if (!*more && *r->at != close)
        return unexpected(r, ", or the end of the list or object");
    r->at++;
    if (*more)
        skip_space(r);
    return true;
}

/* Makes the list of what waits, in the place at `list`. */
static void make_list(lua_State *L, int list, int count, int room)
{
    lua_createtable(L, room, 0);
    lua_replace(L, list);
    for (; count > 0; count--)
        lua_rawseti(L, list, count);
}

static bool read_list(struct reader *r)
{
    lua_State *L = r->L;
    int list = lua_gettop(L) + 1;
    lua_Integer count = 0;
    bool more;

    if (!enter(r))
        return false;
    more = *r->at != ']';
    r->at += !more;
    while (more) {
        if (!read_value(r, count ? "a value" : "a value or ]"))
            return false;
        if (++count == WAITING)
            make_list(L, list, WAITING, 4 * WAITING);
        else if (count > WAITING)
            lua_rawseti(L, list, count);
        if (!go_on(r, ']', &more))
            return false;
    }
    if (count < WAITING)
        make_list(L, list, (int)count, (int)count);
    lua_pushvalue(L, r->mark);
    lua_setmetatable(L, list);
    r->depth--;
    return true;
}

/* An object while it is read. Its first members wait on the stack, so their keys can be compared by address,
 * save long ones, which Lua does not keep once. */
struct object {
    int table;
    size_t count;
    const char *keys[WAITING];
    size_t lens[WAITING];
    bool nulls; /* it holds nulls in the place of nothing */
};

/* Makes the table of the members that wait. */
static void make_object(lua_State *L, const struct object *o, size_t room)
{
    lua_createtable(L, 0, (int)room);
    lua_replace(L, o->table);
    while (lua_gettop(L) > o->table)
        lua_rawset(L, o->table);
}

/* Whether the key on top of the stack was there before. */
static bool is_known(lua_State *L, struct object *o)
{
    const char *key;
    size_t len;
    bool known = false;

    if (o->count >= WAITING) {
        lua_pushvalue(L, -1);
        known = lua_rawget(L, o->table) != LUA_TNIL;
        lua_pop(L, 1);
        return known;
    }
    key = lua_tolstring(L, -1, &len);
    for (size_t i = 0; i < o->count && !known; i++)
        known = o->keys[i] == key || (o->lens[i] == len && len > 32 && memcmp(o->keys[i], key, len) == 0);
    o->keys[o->count] = key;
    o->lens[o->count] = len;
    return known;
}

/* Reads a key, its colon and its value, and puts them into the object. */
static bool read_member(struct reader *r, struct object *o)
{
    lua_State *L = r->L;
    const char *key = r->at;

    if (*key != '"')
        return unexpected(r, o->count ? "a key" : "a key or }");
    if (!read_string(r))
        return false;
    if (is_known(L, o))
        return fault_at(r, key, ERR_INVALID, "duplicate key");
    skip_space(r);
    if (*r->at != ':')
        return unexpected(r, ":");
    r->at++;
    skip_space(r);
    if (!read_value(r, "a value"))
        return false;
    if (lua_isnil(L, -1)) { /* kept until the end, so that a second such key is found */
        lua_pop(L, 1);
        lua_pushvalue(L, r->null);
        o->nulls = true;
    }
    if (++o->count > WAITING)
        lua_rawset(L, o->table);
    else if (o->count == WAITING)
        make_object(L, o, 4 * WAITING);
    return true;
}

static void drop_nulls(struct reader *r, int table)
{
    lua_State *L = r->L;

    lua_pushnil(L);
    while (lua_next(L, table)) {
        if (lua_rawequal(L, -1, r->null)) {
            lua_pushvalue(L, -2);
            lua_pushnil(L);
            lua_rawset(L, table);
        }
        lua_pop(L, 1);
    }
}

static bool read_object(struct reader *r)
{
    struct object o = {.table = lua_gettop(r->L) + 1, .count = 0, .nulls = false};
    bool more;

    if (!enter(r))
        return false;
    more = *r->at != '}';
    r->at += !more;
    while (more) {
        if (!read_member(r, &o) || !go_on(r, '}', &more))
            return false;
    }
    if (o.count < WAITING)
        make_object(r->L, &o, o.count);
    if (o.nulls)
        drop_nulls(r, o.table);
    r->depth--;
    return true;
}

static bool take_word(struct reader *r, const char *word, size_t len)
{
    if (strncmp(r->at, word, len) != 0)
        return false;
    r->at += len;
    return true;
}

/* Pushes the value at r->at; `want` says what else might stand there. */
static bool read_value(struct reader *r, const char *want)
{
    switch (*r->at) {
    case '{':
        return read_object(r);
    case '[':
        return read_list(r);
    case '"':
        return read_string(r);
    case 't':
    case 'f':
        lua_pushboolean(r->L, *r->at == 't');
        return take_word(r, "true", 4) || take_word(r, "false", 5) || unexpected(r, want);
    case 'n':
        if (r->null_as_nil)
            lua_pushnil(r->L);
        else
            lua_pushvalue(r->L, r->null);
        return take_word(r, "null", 4) || unexpected(r, want);
    default:
        return *r->at == '-' || (*r->at >= '0' && *r->at <= '9') ? read_number(r) : unexpected(r, want);
    }
}

bool json_read(lua_State *L, const char *text, size_t len, bool null_as_nil, struct err *e, size_t *offset)
{
    struct reader r = {.L = L,
                       .text = text,
                       .at = text,
                       .end = text + len,
                       .err = e,
                       .offset = offset,
                       .null_as_nil = null_as_nil};

    e->code = ERR_NONE;
    luaL_checkstack(L, 8, "json");
    value_push_null(L);
    value_push_mark(L);
    r.mark = lua_gettop(L);
    r.null = r.mark - 1;
    skip_space(&r);
    if (!read_value(&r, "a value"))
        return false;
    skip_space(&r);
    return r.at == r.end || unexpected(&r, "nothing more");
}
