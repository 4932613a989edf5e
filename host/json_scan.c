/* JSON scanner: grammar, depth, UTF-8 and escapes in one pass. The NUL behind the text ends every loop, since
 * it is part of no token. */
#include "json_scan.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "codec.h"
#include "json_text.h"
#include "value.h"

struct scan {
    const char *text, *at, *end;
    struct json_scan *out;
    struct err *err;
    size_t *offset, duplicate;
    unsigned depth;
};

static bool scan_value(struct scan *s, const char *want);

static bool fault_at(struct scan *s, const char *where, enum err_code code, const char *what)
{
    *s->offset = (size_t)(where - s->text) + 1;
    err_set(s->err, code, "%s at byte %zu", what, *s->offset);
    return false;
}

static bool fault(struct scan *s, const char *what)
{
    return fault_at(s, s->at, ERR_INVALID, what);
}

static bool unexpected(struct scan *s, const char *want)
{
    unsigned char byte = (unsigned char)*s->at;
    char what[24];

    *s->offset = (size_t)(s->at - s->text) + 1;
    if (s->at == s->end)
        snprintf(what, sizeof what, "the text ends");
    else
        snprintf(what, sizeof what, byte > ' ' && byte < 0x7F ? "unexpected %c" : "unexpected byte 0x%02X",
                 byte);
    err_set(s->err, ERR_INVALID, "%s at byte %zu, want %s", what, *s->offset, want);
    return false;
}

static void skip_space(struct scan *s)
{
    while (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t')
        s->at++;
}

/* Whether eight bytes are ASCII that stands for itself in a string. */
static bool is_plain(const char *text)
{
    const uint64_t each = UINT64_C(0x0101010101010101);
    uint64_t bytes;

    memcpy(&bytes, text, sizeof bytes);
    return !(
        (bytes | (bytes - each * 0x20) | ((bytes ^ each * '"') - each) | ((bytes ^ each * '\\') - each)) &
        each * 0x80);
}

/* At a backslash. */
static bool skip_escape(struct scan *s)
{
    char bytes[4];
    size_t used;

    if (!json_unescape(bytes, s->at, (size_t)(s->end - s->at), &used))
        return fault(s, used ? "unknown escape or lone surrogate" : "unfinished escape");
    s->at += used;
    return true;
}

/* The end of the bytes that stand for themselves; it is at the byte that is wrong, if one is. */
static const char *plain_end(const char *at, const char *end)
{
    static const bool special[256] = {
        [0 ... 0x1F] = true, ['"'] = true, ['\\'] = true, [0x80 ... 0xFF] = true};
    size_t n = 1;

    while (end - at >= 8 && is_plain(at))
        at += 8;
    for (; n; at += n) {
        while (!special[(unsigned char)*at])
            at++;
        n = *at & 0x80 ? utf8_length(at, (size_t)(end - at)) : 0;
    }
    return at;
}

/* At the opening quote; ends behind the closing one. */
static bool scan_string(struct scan *s)
{
    const char *open = s->at++;

    for (;;) {
        s->at = plain_end(s->at, s->end);
        if (*s->at == '"') {
            s->at++;
            return true;
        }
        if (*s->at == '\\') {
            if (!skip_escape(s))
                return false;
        } else if (s->at == s->end) {
            return fault_at(s, open, ERR_INVALID, "unfinished string");
        } else {
            return fault(s, *s->at & 0x80 ? "invalid UTF-8" : "control character in a string");
        }
    }
}

static bool skip_digits(struct scan *s)
{
    const char *at = s->at;

    while (*at >= '0' && *at <= '9')
        at++;
    if (at == s->at)
        return false;
    s->at = at;
    return true;
}

static bool scan_number(struct scan *s)
{
    const char *start = s->at, *first;

    s->at += *s->at == '-';
    first = s->at;
    if (!skip_digits(s))
        return fault(s, "a number without digits");
    if (*first == '0' && s->at > first + 1)
        return fault_at(s, first, ERR_INVALID, "a number with a leading zero");
    if (*s->at == '.') {
        s->at++;
        if (!skip_digits(s))
            return fault(s, "a fraction without digits");
    }
    if (*s->at == 'e' || *s->at == 'E') {
        s->at++;
        s->at += *s->at == '+' || *s->at == '-';
        if (!skip_digits(s))
            return fault(s, "an exponent without digits");
    }
    if (s->at - start > JSON_NUMBER_MAX)
        return fault_at(s, start, ERR_TOO_LARGE, "a number of more than 64 bytes");
    s->out->tally.numbers++;
    return true;
}

/* A key and its colon. */
static bool scan_key(struct scan *s, const char *want)
{
    if (*s->at != '"')
        return unexpected(s, want);
    if (!scan_string(s))
        return false;
    skip_space(s);
    if (*s->at != ':')
        return unexpected(s, ":");
    s->at++;
    skip_space(s);
    return true;
}

/* Behind an entry: moves to the next one (*more), or behind the end of the list or object. */
static bool go_on(struct scan *s, char close, bool *more)
{
    skip_space(s);
    *more = *s->at == ',';
    if (!*more && *s->at != close)
        return unexpected(s, ", or the end of the list or object");
    s->at++;
    if (*more)
        skip_space(s);
    return true;
}

/* At an opening bracket or brace. */
static bool scan_container(struct scan *s, bool list)
{
    struct json_note note = {.list = list};
    char close = list ? ']' : '}';
    size_t at = s->out->notes.len, count = 0;
    bool more;

    if (s->depth == VALUE_DEPTH)
        return fault_at(s, s->at, ERR_TOO_LARGE, "nested deeper than 64 levels");
    if (!buf_add(&s->out->notes, &note, sizeof note))
        return fault_at(s, s->at, ERR_MEMORY, "no memory");
    s->depth++;
    s->out->tally.containers++;
    s->at++;
    skip_space(s);
    more = *s->at != close;
    s->at += !more;
    for (; more; count++) {
        const char *key = s->at;

        if (!list && !scan_key(s, count ? "a key" : "a key or }"))
            return false;
        if (!scan_value(s, list && !count ? "a value or ]" : "a value"))
            return false;
        if (!list && ++s->out->tally.members == s->duplicate)
            return fault_at(s, key, ERR_INVALID, "duplicate key");
        if (!go_on(s, close, &more))
            return false;
    }
    while (count > (size_t)1 << note.log >> 1)
        note.log++;
    memcpy(s->out->notes.data + at, &note, sizeof note);
    s->depth--;
    return true;
}

static bool scan_word(struct scan *s, const char *word, const char *want)
{
    size_t len = strlen(word);

    if (strncmp(s->at, word, len) != 0)
        return unexpected(s, want);
    s->at += len;
    return true;
}

/* `want` says what else might stand there. */
static bool scan_value(struct scan *s, const char *want)
{
    switch (*s->at) {
    case '{':
    case '[':
        return scan_container(s, *s->at == '[');
    case '"':
        return scan_string(s);
    case 't':
        return scan_word(s, "true", want);
    case 'f':
        return scan_word(s, "false", want);
    case 'n':
        s->out->tally.nulls++;
        return scan_word(s, "null", want);
    default:
        return *s->at == '-' || (*s->at >= '0' && *s->at <= '9') ? scan_number(s) : unexpected(s, want);
    }
}

bool json_scan(struct json_scan *scan, const char *text, size_t len, size_t duplicate, struct err *e,
               size_t *offset)
{
    struct scan s = {.text = text,
                     .at = text,
                     .end = text + len,
                     .out = scan,
                     .err = e,
                     .offset = offset,
                     .duplicate = duplicate};

    scan->tally = (struct json_tally){0};
    scan->notes.len = 0;
    skip_space(&s);
    if (!scan_value(&s, "a value"))
        return false;
    skip_space(&s);
    return s.at == s.end || unexpected(&s, "nothing more");
}
