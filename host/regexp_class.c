/* Sets of bytes in a regular expression: escapes such as \d and bracket expressions. */
#include "regexp_compile.h"
#include <string.h>

static void add_range(struct regexp_set *set, int from, int to)
{
    for (int c = from; c <= to; c++)
        regexp_set_add(set, (unsigned char)c);
}

static void invert(struct regexp_set *set)
{
    for (int i = 0; i < 8; i++)
        set->bits[i] = ~set->bits[i];
}

static void merge(struct regexp_set *set, const struct regexp_set *more)
{
    for (int i = 0; i < 8; i++)
        set->bits[i] |= more->bits[i];
}

static bool is_letter(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool regexp_is_word(char c)
{
    return is_letter(c) || (c >= '0' && c <= '9') || c == '_';
}

void regexp_add_byte(struct regexp_compiler *c, struct regexp_set *set, unsigned char byte)
{
    regexp_set_add(set, byte);
    if (c->fold && is_letter(byte))
        regexp_set_add(set, byte ^ 0x20);
}

/* The classes by name; ranges as pairs of bytes. */
static bool named_class(const char *name, size_t len, struct regexp_set *set)
{
#define CLASS(name, ranges)                                                                                  \
    {                                                                                                        \
        name, sizeof name - 1, ranges, sizeof ranges - 1                                                     \
    }
    static const struct {
        const char *name;
        size_t name_len;
        const char *ranges;
        size_t ranges_len;
    } classes[] = {
        CLASS("d", "09"),
        CLASS("w", "09azAZ__"),
        CLASS("s", "\t\n\f\r  "),
        CLASS("digit", "09"),
        CLASS("word", "09azAZ__"),
        CLASS("space", "\t\r  "),
        CLASS("alpha", "azAZ"),
        CLASS("alnum", "09azAZ"),
        CLASS("lower", "az"),
        CLASS("upper", "AZ"),
        CLASS("xdigit", "09afAF"),
        CLASS("punct", "!/:@[`{~"),
        CLASS("blank", "\t\t  "),
        CLASS("print", " ~"),
        CLASS("graph", "!~"),
        CLASS("ascii", "\0\x7f"),
        CLASS("cntrl", "\0\x1f\x7f\x7f"),
    };
#undef CLASS

    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        const char *r = classes[i].ranges;

        if (classes[i].name_len != len || memcmp(classes[i].name, name, len) != 0)
            continue;
        for (size_t k = 0; k < classes[i].ranges_len; k += 2)
            add_range(set, (unsigned char)r[k], (unsigned char)r[k + 1]);
        return true;
    }
    return false;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \xHH and \x{HH}; bytes only. */
static int take_hex(struct regexp_compiler *c)
{
    bool braces = c->at < c->end && *c->at == '{';
    int value = 0, digits = 0;

    for (c->at += braces; c->at < c->end && digits < 2 && hex_value(*c->at) >= 0; digits++)
        value = value * 16 + hex_value(*c->at++);
    if (braces && c->at < c->end && *c->at == '}' && digits > 0) {
        c->at++;
        return value;
    }
    if (braces || digits != 2)
        return regexp_refuse(c, ERR_INVALID, "\\x needs two hexadecimal digits");
    return value;
}

/* The byte that a simple escape stands for, or -1. */
static int simple_escape(struct regexp_compiler *c, char letter)
{
    static const char letters[] = "tnrfva", bytes[] = "\t\n\r\f\v\a";
    const char *found = letter ? strchr(letters, letter) : NULL;

    if (letter == 'x')
        return take_hex(c);
    if (found)
        return bytes[found - letters];
    if (is_letter(letter) || (letter >= '0' && letter <= '9') || letter < ' ' || letter > '~')
        return regexp_refuse(c, ERR_UNSUPPORTED, "an unknown escape");
    return (unsigned char)letter;
}

bool regexp_take_escape(struct regexp_compiler *c, struct regexp_set *set, int *byte)
{
    struct regexp_set class = {{0}};
    char letter, lower;
    int value;

    if (c->at == c->end)
        return regexp_refuse(c, ERR_INVALID, "a backslash ends it") == 0;
    letter = *c->at++;
    lower = (char)(letter | 0x20);
    if (is_letter(letter) && named_class(&lower, 1, &class)) {
        if (letter != lower)
            invert(&class);
        merge(set, &class);
        if (byte)
            *byte = -1;
        return true;
    }
    value = simple_escape(c, letter);
    if (value < 0)
        return false;
    if (byte)
        *byte = value;
    regexp_add_byte(c, set, (unsigned char)value);
    return true;
}

/* [:alpha:] and [:^alpha:] inside of brackets; *at is behind the "[:". */
static bool take_named(struct regexp_compiler *c, struct regexp_set *set)
{
    struct regexp_set class = {{0}};
    bool negated = c->at < c->end && *c->at == '^';
    const char *name = c->at += negated;

    while (c->at < c->end && is_letter(*c->at))
        c->at++;
    if (c->end - c->at < 2 || memcmp(c->at, ":]", 2) != 0 || c->at - name < 2 ||
        !named_class(name, (size_t)(c->at - name), &class))
        return regexp_refuse(c, ERR_INVALID, "an unknown class between [: and :]") == 0;
    c->at += 2;
    if (negated)
        invert(&class);
    merge(set, &class);
    return true;
}

/* One byte or class between brackets; *byte is -1 for a class. */
static bool take_member(struct regexp_compiler *c, struct regexp_set *set, int *byte)
{
    if (*c->at == '\\') {
        c->at++;
        return regexp_take_escape(c, set, byte);
    }
    *byte = (unsigned char)*c->at++;
    regexp_add_byte(c, set, (unsigned char)*byte);
    return true;
}

static bool take_range(struct regexp_compiler *c, struct regexp_set *set)
{
    int from = -1, to = -1;

    if (!take_member(c, set, &from))
        return false;
    if (c->end - c->at < 2 || c->at[0] != '-' || c->at[1] == ']')
        return true;
    c->at++;
    if (!take_member(c, set, &to))
        return false;
    if (from < 0 || to < from)
        return regexp_refuse(c, ERR_INVALID, "a range between brackets runs backwards") == 0;
    for (int byte = from; byte <= to; byte++)
        regexp_add_byte(c, set, (unsigned char)byte);
    return true;
}

bool regexp_take_class(struct regexp_compiler *c, struct regexp_set *set)
{
    bool negated = c->at < c->end && *c->at == '^';

    c->at += negated;
    for (bool first = true; first || c->at == c->end || *c->at != ']'; first = false) {
        bool named = c->end - c->at >= 2 && c->at[0] == '[' && c->at[1] == ':';

        if (c->at == c->end)
            return regexp_refuse(c, ERR_INVALID, "brackets are not closed") == 0;
        if (named)
            c->at += 2;
        if (!(named ? take_named(c, set) : take_range(c, set)))
            return false;
    }
    c->at++;
    for (int upper = 'A'; c->fold && upper <= 'Z'; upper++) {
        if (regexp_set_has(set, (unsigned char)upper) || regexp_set_has(set, (unsigned char)(upper | 0x20)))
            regexp_add_byte(c, set, (unsigned char)upper);
    }
    if (negated)
        invert(set);
    return true;
}
