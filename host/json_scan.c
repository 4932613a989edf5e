/* Strict JSON scanner: grammar, depth, numbers, UTF-8 and surrogates in one pass (RFC 8259).
 *
 * A stack of one bit per level tells objects from lists, so that memory is constant apart from the rewritten
 * text. Used by api_json.c; tests/unit and tests/fuzz call it directly. */
#include "json_scan.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "value.h"

_Static_assert(VALUE_DEPTH <= 64, "one bit per level");

enum state {
    WANT_VALUE,
    WANT_VALUE_OR_END, /* after [ */
    WANT_KEY,          /* after , in an object */
    WANT_KEY_OR_END,   /* after { */
    WANT_COLON,
    WANT_COMMA_OR_END,
    WANT_NOTHING,
};

enum { SEEN = 256, SHORT_MAX = 40 };

struct reader {
    struct json_scan *scan;
    struct err *err;
    const char *text, *at, *end;
    const char *copied; /* up to here the text is in scan->out */
    uint64_t objects;   /* bit n: level n is an object */
    unsigned depth;
    size_t count[VALUE_DEPTH]; /* entries so far at each level */
    const char *seen[SEEN];    /* short strings of the text by a hash of theirs: Lua keeps equal ones once */
    enum state state;
};

/* What Lua 5.4 takes on a 64-bit machine: for a table, a place of its array, a node of its hash, and a string
 * beside its bytes, with its place in the table of strings. Arrays and hashes have powers of two; an array is
 * reallocated, a hash is there twice while it grows. */
enum { TABLE_SIZE = 56, SLOT_SIZE = 16, NODE_SIZE = 24, STRING_SIZE = 48 };

static size_t room_for(size_t count)
{
    size_t room = 1;

    while (room < count)
        room *= 2;
    return count ? room : 0;
}

/* A string token with its quotes. Where the same bytes stand, the same token ends. */
static void pay_string(struct reader *r, const char *token, size_t len)
{
    if (len - 2 <= SHORT_MAX) {
        uint32_t hash = 2166136261u;
        const char **seen;

        for (size_t i = 0; i < len; i++)
            hash = (hash ^ (unsigned char)token[i]) * 16777619u;
        seen = &r->seen[hash % SEEN];
        if (*seen && memcmp(*seen, token, len) == 0)
            return;
        *seen = token;
    }
    r->scan->need += STRING_SIZE + len;
}

static void pay_container(struct json_scan *scan, bool object, size_t count)
{
    size_t room = room_for(count || object ? count : 1); /* an empty list holds its mark */

    scan->need += TABLE_SIZE + room * (object ? NODE_SIZE : SLOT_SIZE);
    if (object && room / 2 * NODE_SIZE > scan->growth)
        scan->growth = room / 2 * NODE_SIZE;
}

static bool fault_at(struct reader *r, const char *where, enum err_code code, const char *what)
{
    r->scan->offset = (size_t)(where - r->text) + 1;
    err_set(r->err, code, "%s at byte %zu", what, r->scan->offset);
    return false;
}

static bool fault(struct reader *r, const char *what)
{
    return fault_at(r, r->at, ERR_INVALID, what);
}

static bool unexpected(struct reader *r)
{
    static const char *const wanted[] = {
        [WANT_VALUE] = "a value",
        [WANT_VALUE_OR_END] = "a value or ]",
        [WANT_KEY] = "a key",
        [WANT_KEY_OR_END] = "a key or }",
        [WANT_COLON] = ":",
        [WANT_COMMA_OR_END] = ", or the end of the list or object",
        [WANT_NOTHING] = "nothing more",
    };
    unsigned char byte;

    r->scan->offset = (size_t)(r->at - r->text) + 1;
    if (r->at >= r->end) {
        err_set(r->err, ERR_INVALID, "the text ends at byte %zu, want %s", r->scan->offset, wanted[r->state]);
        return false;
    }
    byte = (unsigned char)*r->at;
    if (byte > ' ' && byte < 0x7F)
        err_set(r->err, ERR_INVALID, "unexpected %c at byte %zu, want %s", byte, r->scan->offset,
                wanted[r->state]);
    else
        err_set(r->err, ERR_INVALID, "unexpected byte 0x%02X at byte %zu, want %s", byte, r->scan->offset,
                wanted[r->state]);
    return false;
}

/* Puts `with` in the place of the text from `from` to the reader's place. */
static bool rewrite(struct reader *r, const char *from, const char *mark, const char *with, size_t len)
{
    struct buf *out = &r->scan->out;

    if (!buf_add(out, r->copied, (size_t)(from - r->copied)) || !buf_text(out, mark) ||
        !buf_add(out, with, len) || !buf_text(out, "\""))
        return fault_at(r, from, ERR_MEMORY, "no memory");
    r->copied = r->at;
    r->scan->need += STRING_SIZE + len;
    return true;
}

/* Four hexadecimal digits; -1 when they are not. */
static int hex4(const char *s, const char *end)
{
    int value = 0;

    if (end - s < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;

        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* At a backslash. A lone surrogate has no UTF-8 and is refused. */
static bool scan_escape(struct reader *r)
{
    int unit, low = -1;

    if (r->end - r->at < 2)
        return fault(r, "unfinished escape");
    if (r->at[1] != 'u') {
        if (!r->at[1] || !strchr("\"\\/bfnrt", r->at[1]))
            return fault(r, "unknown escape");
        r->at += 2;
        return true;
    }
    unit = hex4(r->at + 2, r->end);
    if (unit < 0)
        return fault(r, "unknown escape");
    if (unit < 0xD800 || unit > 0xDFFF) {
        r->at += 6;
        return true;
    }
    if (unit < 0xDC00 && r->end - r->at >= 12 && r->at[6] == '\\' && r->at[7] == 'u')
        low = hex4(r->at + 8, r->end);
    if (low < 0xDC00 || low > 0xDFFF)
        return fault(r, "lone surrogate");
    r->at += 12;
    return true;
}

/* At the opening quote; ends behind the closing one. */
static bool scan_string(struct reader *r)
{
    const char *open = r->at++;

    while (r->at < r->end) {
        unsigned char c = (unsigned char)*r->at;

        if (c == '"') {
            r->at++;
            pay_string(r, open, (size_t)(r->at - open));
            return true;
        }
        if (c == '\\') {
            if (!scan_escape(r))
                return false;
        } else if (c < 0x20) {
            return fault(r, "control character in a string");
        } else if (c < 0x80) {
            r->at++;
        } else {
            size_t run = 1, left = (size_t)(r->end - r->at);

            while (run < left && (unsigned char)r->at[run] >= 0x80)
                run++;
            left = value_utf8(r->at, run);
            r->at += left;
            if (left < run)
                return fault(r, "invalid UTF-8");
        }
    }
    return fault_at(r, open, ERR_INVALID, "unfinished string");
}

static size_t digits(const char *s, const char *end)
{
    const char *start = s;

    while (s < end && *s >= '0' && *s <= '9')
        s++;
    return (size_t)(s - start);
}

/* Checks the value of a number whose grammar is right. */
static bool keep_number(struct reader *r, const char *start, bool exponent, size_t whole_digits)
{
    char token[JSON_NUMBER_MAX + 1];
    size_t len = (size_t)(r->at - start);

    if (len > JSON_NUMBER_MAX)
        return fault_at(r, start, ERR_TOO_LARGE, "a number of more than 64 bytes");
    memcpy(token, start, len);
    token[len] = '\0';
    if (exponent && isinf(strtod(token, NULL)))
        return fault_at(r, start, ERR_INVALID, "number out of range");
    if (whole_digits > 15) {
        errno = 0;
        (void)strtoll(token, NULL, 10);
        return rewrite(r, start, errno ? "\"\xFF~" : "\"\xFF", start, len);
    }
    return true;
}

static bool scan_number(struct reader *r)
{
    const char *start = r->at;
    bool exponent = false, fraction = false;
    size_t whole;

    if (*r->at == '-')
        r->at++;
    whole = digits(r->at, r->end);
    if (!whole)
        return fault(r, "a number without digits");
    if (whole > 1 && *r->at == '0')
        return fault(r, "a number with a leading zero");
    r->at += whole;
    if (r->at < r->end && *r->at == '.') {
        size_t n = digits(++r->at, r->end);

        if (!n)
            return fault(r, "a fraction without digits");
        r->at += n;
        fraction = true;
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        size_t n;

        if (++r->at < r->end && (*r->at == '+' || *r->at == '-'))
            r->at++;
        n = digits(r->at, r->end);
        if (!n)
            return fault(r, "an exponent without digits");
        r->at += n;
        exponent = true;
    }
    return keep_number(r, start, exponent, fraction || exponent ? 0 : whole);
}

static bool scan_word(struct reader *r, const char *word)
{
    size_t len = strlen(word);

    if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0)
        return unexpected(r);
    r->at += len;
    return true;
}

static bool open_container(struct reader *r, bool object)
{
    if (r->depth == VALUE_DEPTH)
        return fault_at(r, r->at, ERR_TOO_LARGE, "nested deeper than 64 levels");
    if (object)
        r->objects |= UINT64_C(1) << r->depth;
    else
        r->objects &= ~(UINT64_C(1) << r->depth);
    r->count[r->depth++] = 0;
    r->state = object ? WANT_KEY_OR_END : WANT_VALUE_OR_END;
    r->at++;
    return true;
}

static bool in_object(const struct reader *r)
{
    return r->depth > 0 && (r->objects >> (r->depth - 1) & 1);
}

static bool close_container(struct reader *r)
{
    if (r->state == WANT_VALUE_OR_END && !rewrite(r, r->at, "\"\xFF", NULL, 0))
        return false;
    r->at++;
    r->depth--;
    pay_container(r->scan, r->objects >> r->depth & 1, r->count[r->depth]);
    r->state = r->depth ? WANT_COMMA_OR_END : WANT_NOTHING;
    return true;
}

static bool scan_value(struct reader *r)
{
    enum state after = r->depth ? WANT_COMMA_OR_END : WANT_NOTHING;
    bool ok;

    if (r->depth)
        r->count[r->depth - 1]++;
    switch (*r->at) {
    case '{':
    case '[':
        return open_container(r, *r->at == '{');
    case '"':
        ok = scan_string(r);
        break;
    case 't':
        ok = scan_word(r, "true");
        break;
    case 'f':
        ok = scan_word(r, "false");
        break;
    case 'n':
        ok = scan_word(r, "null");
        break;
    default:
        if (*r->at != '-' && (*r->at < '0' || *r->at > '9'))
            return unexpected(r);
        ok = scan_number(r);
        break;
    }
    r->state = after;
    return ok;
}

/* One token; the reader stands on a byte that is not white space. */
static bool scan_token(struct reader *r)
{
    char c = *r->at;

    switch (r->state) {
    case WANT_VALUE_OR_END:
        if (c == ']')
            return close_container(r);
        return scan_value(r);
    case WANT_VALUE:
        return scan_value(r);
    case WANT_KEY_OR_END:
        if (c == '}')
            return close_container(r);
        /* fall through */
    case WANT_KEY:
        if (c != '"')
            return unexpected(r);
        r->scan->members++;
        r->state = WANT_COLON;
        return scan_string(r);
    case WANT_COLON:
        if (c != ':')
            return unexpected(r);
        r->state = WANT_VALUE;
        r->at++;
        return true;
    case WANT_COMMA_OR_END:
        if (c == (in_object(r) ? '}' : ']'))
            return close_container(r);
        if (c != ',')
            return unexpected(r);
        r->state = in_object(r) ? WANT_KEY : WANT_VALUE;
        r->at++;
        return true;
    default:
        return unexpected(r);
    }
}

bool json_scan(struct json_scan *scan, const char *text, size_t len, struct err *e)
{
    struct reader r = {
        .scan = scan,
        .err = e,
        .text = text,
        .at = text,
        .end = text + len,
        .copied = text,
        .state = WANT_VALUE,
    };

    for (;;) {
        while (r.at < r.end && (*r.at == ' ' || *r.at == '\n' || *r.at == '\r' || *r.at == '\t'))
            r.at++;
        if (r.at == r.end)
            break;
        if (!scan_token(&r))
            return false;
    }
    if (r.state != WANT_NOTHING)
        return unexpected(&r);
    if (scan->out.data && !buf_add(&scan->out, r.copied, (size_t)(r.end - r.copied)))
        return fault(&r, "no memory");
    return true;
}
