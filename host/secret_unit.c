/* Escapes undone one at a time; see the header. */
#include "secret_unit.h"

#include <string.h>

const char secret_escapes[SPELLINGS] = {[PERCENT] = '%', [WEBFORM] = '+', [JSON] = '\\'};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads up to `want` hex digits; returns how many there are. */
static size_t hex_run(const char *t, size_t left, size_t want, unsigned *value)
{
    size_t n = 0;

    *value = 0;
    while (n < want && n < left && hex_digit(t[n]) >= 0)
        *value = *value << 4 | (unsigned)hex_digit(t[n++]);
    return n;
}

static const struct unit text_ends;

static struct unit single(unsigned byte, size_t used)
{
    return (struct unit){.bytes = {(unsigned char)byte}, .len = 1, .used = used};
}

static struct unit utf8(unsigned code, size_t used)
{
    struct unit u = {.used = used};

    if (code < 0x80)
        return single(code, used);
    u.len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = u.len - 1; i > 0; i--, code >>= 6)
        u.bytes[i] = (unsigned char)(0x80 | (code & 63));
    u.bytes[0] = (unsigned char)((0xf00u >> u.len & 0xf0) | code);
    return u;
}

static struct unit percent_unit(const char *t, size_t left)
{
    unsigned value;
    size_t digits = hex_run(t + 1, left - 1, 2, &value);

    if (digits == 2)
        return single(value, 3);
    return digits == left - 1 ? text_ends : single('%', 1);
}

static struct unit json_unit(const char *t, size_t left)
{
    static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    unsigned code, low;

    if (left < 2)
        return text_ends;
    if (t[1] != 'u') {
        const char *name = t[1] ? strchr(names, t[1]) : NULL;

        return name ? single((unsigned char)meanings[name - names], 2) : single('\\', 1);
    }

    size_t digits = hex_run(t + 2, left - 2, 4, &code);

    if (digits < 4)
        return digits == left - 2 ? text_ends : single('\\', 1);
    if (code < 0xd800 || code > 0xdbff)
        return utf8(code, 6);
    if (left < 12 && (left < 7 || t[6] == '\\'))
        return text_ends;
    if (left >= 12 && t[6] == '\\' && t[7] == 'u' && hex_run(t + 8, 4, 4, &low) == 4 && low >> 10 == 0x37)
        return utf8(0x10000 + ((code & 0x3ff) << 10 | (low & 0x3ff)), 12);
    return single('\\', 1);
}

struct unit secret_unit(const char *t, size_t left, enum spelling how)
{
    if (*t == '%' && (how == PERCENT || how == WEBFORM))
        return percent_unit(t, left);
    if (*t == '+' && how == WEBFORM)
        return single(' ', 1);
    if (*t == '\\' && how == JSON)
        return json_unit(t, left);
    return single((unsigned char)*t, 1);
}
