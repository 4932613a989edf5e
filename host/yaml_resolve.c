/* Plain YAML scalars. The rules of Kubernetes are Go's strconv with base 0, and YAML 1.1's words. */
#include "yaml_resolve.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 400 /* bytes; a longer one is text: no field holds it */

/* -?(0|[1-9][0-9]*) in 64 bits. */
static bool find_decimal(const char *text, size_t len, struct yaml_scalar *s)
{
    char copy[24];
    size_t sign = len && *text == '-';

    if (len == sign || len >= sizeof copy)
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (strspn(copy + sign, "0123456789") != len - sign || (copy[sign] == '0' && len > 1))
        return false;
    errno = 0;
    s->integer = strtoll(copy, NULL, 10);
    return errno == 0;
}

struct yaml_scalar yaml_resolve(const char *text, size_t len)
{
    struct yaml_scalar s = {.kind = YAML_IS_TEXT};

#define IS(word) (len == sizeof word - 1 && memcmp(text, word, len) == 0)
    if (IS("") || IS("null") || IS("~"))
        s.kind = YAML_IS_NULL;
    else if ((s.truth = IS("true")) || IS("false"))
        s.kind = YAML_IS_BOOL;
    else if (find_decimal(text, len, &s))
        s.kind = YAML_IS_INT;
#undef IS
    return s;
}

/* Each word as it is, capitalised, or in capitals; a single letter has two spellings. */
static bool is_word(const char *text, size_t len, const char *lower)
{
    bool small = true, large = true;

    if (strlen(lower) != len)
        return false;
    for (size_t i = 0; i < len; i++) {
        char upper = lower[i] >= 'a' && lower[i] <= 'z' ? (char)(lower[i] - 'a' + 'A') : lower[i];

        if (text[i] != lower[i] && text[i] != upper)
            return false;
        if (i) {
            small = small && text[i] == lower[i];
            large = large && text[i] == upper;
        }
    }
    return small || (large && text[0] != lower[0]);
}

static bool find_word(const char *text, size_t len, struct yaml_scalar *s)
{
    static const char *const yes[] = {"y", "yes", "true", "on"}, *const no[] = {"n", "no", "false", "off"};

    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        s->truth = is_word(text, len, yes[i]);
        if (s->truth || is_word(text, len, no[i])) {
            s->kind = YAML_IS_BOOL;
            return true;
        }
    }
    if (!len || (len == 1 && *text == '~') || is_word(text, len, "null")) {
        s->kind = YAML_IS_NULL;
        return true;
    }
    return false;
}

static bool find_special(const char *text, size_t len, struct yaml_scalar *s)
{
    static const char *const infinite[] = {".inf", ".Inf", ".INF"}, *const none[] = {".nan", ".NaN", ".NAN"};
    size_t sign = len && (*text == '-' || *text == '+');

    for (size_t i = 0; i < 3; i++) {
        if (len == 4 && memcmp(text, none[i], 4) == 0)
            s->number = NAN;
        else if (len == 4 + sign && memcmp(text + sign, infinite[i], 4) == 0)
            s->number = *text == '-' ? -INFINITY : INFINITY;
        else
            continue;
        s->kind = YAML_IS_FLOAT;
        return true;
    }
    return false;
}

/* An integer as Go's ParseInt with base 0 reads it, or ParseUint where that one does not fit. */
static bool find_integer(const char *text, struct yaml_scalar *s)
{
    const char *digits = text + (*text == '-' || *text == '+');
    unsigned long long value;
    int base = 10;

    if (digits[0] == '0' && digits[1]) {
        char letter = digits[1] | 0x20;

        base = letter == 'x' ? 16 : letter == 'b' ? 2 : 8;
        digits += letter == 'x' || letter == 'b' || letter == 'o' ? 2 : 1;
    }
    if (!*digits || digits[strspn(digits, base == 16  ? "0123456789abcdefABCDEF"
                                          : base == 8 ? "01234567"
                                          : base == 2 ? "01"
                                                      : "0123456789")])
        return false;
    errno = 0;
    value = strtoull(digits, NULL, base);
    if (errno)
        return false;
    s->kind = YAML_IS_INT;
    if (*text == '-' && value <= (unsigned long long)INT64_MAX + 1) {
        s->integer = (int64_t)(0 - value);
    } else if (*text != '-' && value <= INT64_MAX) {
        s->integer = (int64_t)value;
    } else if (*text >= '0' && *text <= '9') { /* ParseUint knows no sign */
        s->kind = YAML_IS_UINT;
        s->number = (double)value;
    } else {
        return false;
    }
    return true;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? within the range of a double. */
static bool find_float(const char *text, struct yaml_scalar *s)
{
    const char *p = text + (*text == '-' || *text == '+');
    size_t whole = strspn(p, "0123456789"), fraction = 0;

    p += whole;
    if (*p == '.') {
        fraction = strspn(++p, "0123456789");
        p += fraction;
    }
    if (!whole && !fraction)
        return false;
    if (*p == 'e' || *p == 'E') {
        p += 1 + (p[1] == '-' || p[1] == '+');
        if (!strspn(p, "0123456789"))
            return false;
        p += strspn(p, "0123456789");
    }
    if (*p)
        return false;
    s->number = strtod(text, NULL);
    s->kind = YAML_IS_FLOAT;
    return isfinite(s->number);
}

static bool parts_digits(const char *text, size_t at, size_t len)
{
    return at && at + 1 < len && text[at - 1] >= '0' && text[at - 1] <= '9' && text[at + 1] >= '0' &&
           text[at + 1] <= '9';
}

struct yaml_scalar yaml_resolve_kubernetes(const char *text, size_t len)
{
    struct yaml_scalar s = {.kind = YAML_IS_TEXT};
    char plain[NUMBER_MAX + 1], first = len ? *text : '\0';
    size_t kept = 0;

    if (find_word(text, len, &s) || find_special(text, len, &s))
        return s;
    if (len > NUMBER_MAX || !memchr("0123456789+-.", first, 13) || memchr(text, '\0', len))
        return s;
    for (size_t i = 0; i < len; i++) /* 1_000 is a thousand; behind a leading dot only digits are parted so */
        if (text[i] != '_' || (first == '.' && !parts_digits(text, i, len)))
            plain[kept++] = text[i];
    plain[kept] = '\0';
    if ((first != '.' && find_integer(plain, &s)) || find_float(plain, &s))
        return s;
    return (struct yaml_scalar){.kind = YAML_IS_TEXT};
}

/* The shortest decimal that reads back as the same single-precision number, as Go's FormatFloat(x, 'g', -1,
 * 32). */
static size_t write_float(double number, char *out)
{
    float single = (float)number;
    char digits[YAML_KEY_MAX];
    int precision = 0, exponent;

    if (isnan(single) || isinf(single))
        return (size_t)snprintf(out, YAML_KEY_MAX, "%s",
                                isnan(single) ? ".nan"
                                : single < 0  ? "-.inf"
                                              : ".inf");
    do
        snprintf(digits, sizeof digits, "%.*e", precision, (double)single);
    while (strtof(digits, NULL) != single && ++precision < 9);
    exponent = (int)strtol(strchr(digits, 'e') + 1, NULL, 10);
    if (exponent < -4 || exponent >= 6)
        return (size_t)snprintf(out, YAML_KEY_MAX, "%s", digits);
    return (size_t)snprintf(out, YAML_KEY_MAX, "%.*f", precision > exponent ? precision - exponent : 0,
                            (double)single);
}

size_t yaml_resolve_key(const struct yaml_scalar *scalar, char *out)
{
    switch (scalar->kind) {
    case YAML_IS_BOOL:
        return (size_t)snprintf(out, YAML_KEY_MAX, "%s", scalar->truth ? "true" : "false");
    case YAML_IS_INT:
        return (size_t)snprintf(out, YAML_KEY_MAX, "%lld", (long long)scalar->integer);
    case YAML_IS_FLOAT:
        return write_float(scalar->number, out);
    default:
        return 0;
    }
}
