/* Semantic versions: parsing and precedence (semver_range.c has the ranges).
 *
 * A hand-written scanner instead of a regular expression, because the input is hostile: one pass, no memory,
 * no conversion of digits to integers. Called by the semver binding and the policies. */
#include "semver.h"
#include <string.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_id_char(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
}

/* Takes digits off the front of [*at, end). */
static bool scan_number(const char **at, const char *end, bool loose, struct semver_part *out)
{
    const char *start = *at, *p = start;

    while (p < end && is_digit(*p))
        p++;
    if (p == start || (!loose && *start == '0' && p - start > 1))
        return false;
    *at = p;
    while (p - start > 1 && *start == '0')
        start++;
    *out = (struct semver_part){start, (size_t)(p - start)};
    return true;
}

bool semver_is_number(struct semver_part id)
{
    for (size_t i = 0; i < id.len; i++) {
        if (!is_digit(id.data[i]))
            return false;
    }
    return id.len > 0;
}

/* Takes dot-separated identifiers off the front; numbers among them may have leading zeros when `zeros`. */
static bool scan_ids(const char **at, const char *end, bool zeros, struct semver_part *out)
{
    const char *start = *at, *p = start;

    for (;;) {
        struct semver_part id = {p, 0};

        while (p < end && is_id_char(*p))
            p++;
        id.len = (size_t)(p - id.data);
        if (id.len == 0 || (!zeros && id.len > 1 && *id.data == '0' && semver_is_number(id)))
            return false;
        if (p == end || *p != '.')
            break;
        p++;
    }
    *out = (struct semver_part){start, (size_t)(p - start)};
    *at = p;
    return true;
}

static bool scan_tail(struct semver *v, const char *p, const char *end, bool loose)
{
    if (p < end && *p == '-') {
        p++;
        if (!scan_ids(&p, end, loose, &v->pre))
            return false;
    }
    if (p < end && *p == '+') {
        p++;
        if (!scan_ids(&p, end, true, &v->build))
            return false;
    }
    return p == end;
}

static bool parse(struct semver *v, const char *text, size_t len, bool loose)
{
    const char *p = text, *end = text + len;
    struct semver_part *numbers[] = {&v->major, &v->minor, &v->patch};

    memset(v, 0, sizeof *v);
    if (len > SEMVER_MAX)
        return false;
    if (loose && p < end && *p == 'v')
        p++;
    for (int i = 0; i < 3; i++) {
        if (i > 0) {
            if (p == end || *p != '.') {
                if (!loose)
                    return false;
                *numbers[i] = (struct semver_part){"0", 1};
                continue;
            }
            p++;
        }
        if (!scan_number(&p, end, loose, numbers[i]))
            return false;
    }
    return scan_tail(v, p, end, loose);
}

bool semver_parse(struct semver *v, const char *text, size_t len)
{
    return parse(v, text, len, false);
}

bool semver_parse_loose(struct semver *v, const char *text, size_t len)
{
    return parse(v, text, len, true);
}

static int sign(int n)
{
    return (n > 0) - (n < 0);
}

int semver_compare_number(struct semver_part a, struct semver_part b)
{
    if (a.len != b.len)
        return a.len < b.len ? -1 : 1;
    return sign(memcmp(a.data, b.data, a.len));
}

bool semver_equal_part(struct semver_part a, struct semver_part b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool semver_next_id(struct semver_part *rest, struct semver_part *id)
{
    const char *dot;

    if (!rest->data)
        return false;
    dot = memchr(rest->data, '.', rest->len);
    *id = (struct semver_part){rest->data, dot ? (size_t)(dot - rest->data) : rest->len};
    *rest = dot ? (struct semver_part){dot + 1, rest->len - id->len - 1} : (struct semver_part){NULL, 0};
    return true;
}

static struct semver_part without_zeros(struct semver_part n)
{
    while (n.len > 1 && *n.data == '0') {
        n.data++;
        n.len--;
    }
    return n;
}

static int compare_id(struct semver_part a, struct semver_part b)
{
    bool a_number = semver_is_number(a), b_number = semver_is_number(b);
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order;

    if (a_number && b_number)
        return semver_compare_number(without_zeros(a), without_zeros(b));
    if (a_number != b_number)
        return a_number ? -1 : 1;
    order = sign(memcmp(a.data, b.data, shorter));
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

int semver_compare_pre(struct semver_part a, struct semver_part b)
{
    struct semver_part x, y;

    if (!a.data || !b.data)
        return !a.data - !b.data;
    for (;;) {
        bool more_a = semver_next_id(&a, &x), more_b = semver_next_id(&b, &y);
        int order;

        if (!more_a || !more_b)
            return more_a - more_b;
        order = compare_id(x, y);
        if (order)
            return order;
    }
}

int semver_compare(const struct semver *a, const struct semver *b)
{
    int order = semver_compare_number(a->major, b->major);

    if (!order)
        order = semver_compare_number(a->minor, b->minor);
    if (!order)
        order = semver_compare_number(a->patch, b->patch);
    return order ? order : semver_compare_pre(a->pre, b->pre);
}
