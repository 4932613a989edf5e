/* Regular expressions: reads Go's syntax, writes PCRE2's, matches within limits; and globs.
 *
 * Every literal byte is written as \xHH and every group but `compare` without a number, so nothing in a
 * pattern means something to PCRE2 that it does not mean here. Literals and classes are all that consumes a
 * byte. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "regexp.h"
#include <ctype.h>
#include <pcre2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "codec.h"

/* What one match may cost: steps times bytes of compiled pattern, since a step may walk through all of it,
 * and KiB of memory. It is a few milliseconds at most; a usual match takes a thousandth of it. */
enum { WORK_MAX = 8 << 20, HEAP_MAX = 1024 };

struct reader {
    const char *start, *at, *end;
    struct err *e;
    unsigned depth;
    bool has_key, repeatable; /* repeatable: something precedes that * may stand behind */
    size_t len;
    char out[16 + 8 * REGEXP_PATTERN_MAX]; /* no construct grows more than eightfold */
};

/* Records the first reason; always false. */
__attribute__((format(printf, 3, 4))) static bool refuse(struct reader *r, enum err_code code,
                                                         const char *fmt, ...)
{
    char why[128];
    va_list args;

    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    if (r->e->code == ERR_NONE)
        err_set(r->e, code, "regular expression: %s, at byte %d", why, (int)(r->at - r->start) + 1);
    return false;
}

static bool put(struct reader *r, const char *text)
{
    size_t len = strlen(text);

    memcpy(r->out + r->len, text, len);
    r->len += len;
    return true;
}

static bool put_byte(struct reader *r, int byte)
{
    char text[8];

    snprintf(text, sizeof text, "\\x%02x", byte & 0xff);
    return put(r, text);
}

static bool peek(const struct reader *r, const char *text)
{
    size_t len = strlen(text);
    return (size_t)(r->end - r->at) >= len && memcmp(r->at, text, len) == 0;
}

static bool take(struct reader *r, const char *text)
{
    if (!peek(r, text))
        return false;
    r->at += strlen(text);
    return true;
}

/* \xHH and \x{HH}; bytes only. -1: neither. */
static int take_hex(struct reader *r)
{
    bool braces = take(r, "{");
    int value = 0, count = 0;

    for (; r->at < r->end && count < 2 && hex_digit(*r->at) >= 0; count++)
        value = value * 16 + hex_digit(*r->at++);
    return (braces ? count > 0 && take(r, "}") : count == 2) ? value : -1;
}

/* Writes what follows a backslash. *byte is the byte that it stands for, -1 for a class. */
static bool take_escape(struct reader *r, bool in_brackets, int *byte)
{
    static const char letters[] = "tnrfva", bytes[] = "\t\n\r\f\v\a";
    const char *letter;
    char c;

    if (r->at == r->end)
        return refuse(r, ERR_INVALID, "a backslash ends it");
    c = *r->at++;
    *byte = -1;
    if (c && strchr("dDwW", c))
        return put(r, (char[]){'\\', c, '\0'});
    if (c == 's' || c == 'S') { /* Go's have no vertical tab */
        put(r, in_brackets ? "" : "[");
        put(r, c == 's' ? "\\t\\n\\f\\r\\x20" : "[:^space:]\\x0b");
        return put(r, in_brackets ? "" : "]");
    }
    letter = c ? strchr(letters, c) : NULL;
    if (letter)
        *byte = (unsigned char)bytes[letter - letters];
    else if (c == 'x')
        *byte = take_hex(r);
    else if ((unsigned char)c < 128 && ispunct((unsigned char)c))
        *byte = (unsigned char)c;
    else
        return refuse(r, ERR_UNSUPPORTED, "an escape that is not supported");
    return *byte < 0 ? refuse(r, ERR_INVALID, "\\x needs two hexadecimal digits") : put_byte(r, *byte);
}

/* One byte or class between brackets: *byte as above. */
static bool take_member(struct reader *r, int *byte)
{
    if (take(r, "\\"))
        return take_escape(r, true, byte);
    *byte = (unsigned char)*r->at++;
    return put_byte(r, *byte);
}

static bool take_range(struct reader *r)
{
    int from, to;

    if (!take_member(r, &from))
        return false;
    if (r->end - r->at < 2 || r->at[0] != '-' || r->at[1] == ']')
        return true;
    r->at++;
    put(r, "-");
    if (!take_member(r, &to))
        return false;
    if (from < 0 || to < from)
        return refuse(r, ERR_INVALID, "a range between brackets runs backwards");
    return true;
}

/* [:alpha:] and [:^alpha:] inside of brackets. */
static bool take_named(struct reader *r)
{
    static const char *const names[] = {"alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph",
                                        "lower", "print", "punct", "space", "upper", "word",  "xdigit"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (int negated = 0; negated < 2; negated++) {
            char name[16];

            snprintf(name, sizeof name, "[:%s%s:]", negated ? "^" : "", names[i]);
            if (take(r, name))
                return put(r, name);
        }
    }
    return refuse(r, ERR_INVALID, "an unknown class between [: and :]");
}

/* What follows an opening bracket. */
static bool take_brackets(struct reader *r)
{
    put(r, take(r, "^") ? "[^" : "[");
    for (bool first = true; first || !peek(r, "]"); first = false) {
        if (r->at == r->end)
            return refuse(r, ERR_INVALID, "brackets are not closed");
        if (!(peek(r, "[:") ? take_named(r) : take_range(r)))
            return false;
    }
    r->at++;
    return put(r, "]");
}

/* What follows "(?P<" or "(?<". */
static bool take_name(struct reader *r)
{
    const char *name = r->at;

    while (r->at < r->end && (isalnum((unsigned char)*r->at) || *r->at == '_'))
        r->at++;
    if (r->at == name || !peek(r, ">"))
        return refuse(r, ERR_INVALID, "a group's name is not finished");
    if (r->at++ - name != 7 || memcmp(name, "compare", 7) != 0)
        return put(r, "(?:");
    if (r->has_key)
        return refuse(r, ERR_INVALID, "two groups are named \"compare\"");
    r->has_key = true;
    return put(r, "(");
}

/* What follows an opening parenthesis. Flags without a group hold to the end of the enclosing one. */
static bool take_group(struct reader *r)
{
    if (take(r, "?P<") || take(r, "?<")) {
        if (!take_name(r))
            return false;
    } else if (take(r, "?")) {
        put(r, "(?");
        while (r->at < r->end && strchr("is-", *r->at) && *r->at)
            put(r, (char[]){*r->at++, 0});
        if (take(r, ")"))
            return put(r, ")");
        if (!take(r, ":"))
            return refuse(r, ERR_UNSUPPORTED, "only (?:, (?i), (?s) and (?P<name> may follow \"(?\"");
        put(r, ":");
    } else {
        put(r, "(?:");
    }
    if (++r->depth > REGEXP_NEST_MAX)
        return refuse(r, ERR_TOO_LARGE, "more than %d groups in each other", REGEXP_NEST_MAX);
    return true;
}

static bool take_count(struct reader *r, unsigned *count)
{
    const char *start = r->at;

    for (*count = 0; r->at < r->end && isdigit((unsigned char)*r->at); r->at++) {
        if (*count <= REGEXP_REPEAT_MAX)
            *count = *count * 10 + (unsigned)(*r->at - '0');
    }
    return r->at > start;
}

/* Reads {n}, {n,} or {n,m}; anything else that begins with a brace is an ordinary byte. */
static bool take_braces(struct reader *r, unsigned *min, unsigned *max, bool *open)
{
    const char *start = r->at++;
    bool fine = take_count(r, min);

    *max = *min;
    *open = fine && take(r, ",") && peek(r, "}");
    if (fine && !*open && r->at[-1] == ',')
        fine = take_count(r, max);
    if (fine && take(r, "}"))
        return true;
    r->at = start;
    return false;
}

/* Reads a repetition and its `?`. False when there is none, or r->e is set. */
static bool take_repeat(struct reader *r)
{
    char text[24] = {r->at < r->end ? *r->at : '\0'};

    if (text[0] == '{') {
        unsigned min, max;
        bool open;

        if (!take_braces(r, &min, &max, &open))
            return false;
        if (min > REGEXP_REPEAT_MAX || max > REGEXP_REPEAT_MAX)
            return refuse(r, ERR_TOO_LARGE, "a count is over %d", REGEXP_REPEAT_MAX);
        if (max < min)
            return refuse(r, ERR_INVALID, "a count runs backwards");
        snprintf(text, sizeof text, open ? "{%u,}" : "{%u,%u}", min, max);
    } else if (!take(r, "*") && !take(r, "+") && !take(r, "?")) {
        return false;
    }
    if (!r->repeatable)
        return refuse(r, ERR_INVALID, "nothing to repeat, or two repetitions in a row");
    r->repeatable = false;
    return put(r, text) && put(r, take(r, "?") ? "?" : "");
}

/* An assertion is grouped, since PCRE2 repeats none. */
static bool take_assertion(struct reader *r)
{
    static const char *const from[] = {"^", "$", "\\A", "\\z", "\\b", "\\B"};
    static const char *const to[] = {"(?:\\A)", "(?:\\z)", "(?:\\A)", "(?:\\z)", "(?:\\b)", "(?:\\B)"};

    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        if (take(r, from[i]))
            return put(r, to[i]);
    }
    return false;
}

static bool take_part(struct reader *r)
{
    char c = *r->at;
    int byte;

    if (take_repeat(r))
        return true;
    if (r->e->code != ERR_NONE)
        return false;
    r->repeatable = c != '(' && c != '|';
    if (take_assertion(r))
        return true;
    r->at++;
    switch (c) {
    case '(':
        return take_group(r);
    case '[':
        return take_brackets(r);
    case '\\':
        return take_escape(r, false, &byte);
    case ')':
        if (r->depth-- == 0)
            return refuse(r, ERR_INVALID, "a group is closed that was not opened");
        return put(r, ")");
    case '|':
    case '.':
        return put(r, (char[]){c, '\0'});
    default:
        return put_byte(r, (unsigned char)c);
    }
}

/* The whole pattern, behind a lazy wildcard: so one call of the matcher tries all places where a match may
 * begin, and its limit of steps holds for all of them together. */
static bool translate(struct reader *r)
{
    if (r->end - r->start > REGEXP_PATTERN_MAX)
        return refuse(r, ERR_TOO_LARGE, "over %d bytes long", REGEXP_PATTERN_MAX);
    put(r, "(?s:.*?)(?:");
    while (r->at < r->end) {
        if (!take_part(r))
            return false;
    }
    if (r->depth > 0)
        return refuse(r, ERR_INVALID, "a group is not closed");
    return put(r, ")");
}

static enum err_code code_of(int failure)
{
    switch (failure) {
    case PCRE2_ERROR_HEAP_FAILED:
        return ERR_MEMORY;
    case PCRE2_ERROR_PATTERN_TOO_LARGE:
    case PCRE2_ERROR_PATTERN_TOO_COMPLICATED:
        return ERR_TOO_LARGE;
    default:
        return ERR_INVALID;
    }
}

/* PCRE2's copy of a compiled pattern goes into the caller's struct, all else to the heap. */
static void *memory_get(size_t size, void *arg)
{
    struct regexp *re = arg;
    return re->code ? re->room : malloc(size);
}

static void memory_free(void *block, void *arg)
{
    struct regexp *re = arg;
    if (block != re->room)
        free(block);
}

/* Compiles what the reader has written. The reason on failure, else 0. */
static int compile(struct regexp *re, const struct reader *r)
{
    pcre2_general_context *memory = pcre2_general_context_create(memory_get, memory_free, re);
    pcre2_compile_context *context = memory ? pcre2_compile_context_create(memory) : NULL;
    pcre2_code *code = NULL;
    PCRE2_SIZE where, size = 0;
    int failure = PCRE2_ERROR_HEAP_FAILED;

    if (context) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        code = pcre2_compile((PCRE2_SPTR)r->out, r->len, PCRE2_ANCHORED | PCRE2_NEVER_UTF | PCRE2_NEVER_UCP,
                             &failure, &where, context);
    }
    if (code) {
        pcre2_pattern_info(code, PCRE2_INFO_SIZE, &size);
        failure = size > REGEXP_CODE_MAX ? PCRE2_ERROR_PATTERN_TOO_LARGE : 0;
        re->code = code;
        re->code = failure ? NULL : pcre2_code_copy(code);
        pcre2_code_free(code);
    }
    pcre2_compile_context_free(context);
    pcre2_general_context_free(memory);
    return failure;
}

bool regexp_compile(struct regexp *re, const char *pattern, size_t len, struct err *e)
{
    struct reader r = {.start = pattern, .at = pattern, .end = pattern + len, .e = e};
    char why[96];
    int failure;

    re->code = NULL;
    e->code = ERR_NONE;
    if (!translate(&r))
        return false;
    re->has_key = r.has_key;
    failure = compile(re, &r);
    if (failure) {
        pcre2_get_error_message(failure, (PCRE2_UCHAR *)why, sizeof why);
        err_set(e, code_of(failure), "regular expression: %s", why);
    }
    return !failure;
}

bool regexp_match(const struct regexp *re, const char *subject, size_t len, struct regexp_key *key,
                  struct err *e)
{
    pcre2_match_context *limits = NULL;
    pcre2_match_data *found = NULL;
    int answer = PCRE2_ERROR_NOMEMORY;
    size_t size;

    e->code = ERR_NONE;
    if (key)
        *key = (struct regexp_key){NULL, 0};
    if (len > REGEXP_SUBJECT_MAX)
        return false;
    limits = pcre2_match_context_create(NULL);
    found = pcre2_match_data_create(2, NULL);
    if (limits && found) {
        pcre2_pattern_info(re->code, PCRE2_INFO_SIZE, &size);
        pcre2_set_match_limit(limits, (uint32_t)(WORK_MAX / size));
        pcre2_set_heap_limit(limits, HEAP_MAX);
        answer = pcre2_match(re->code, (PCRE2_SPTR)subject, len, 0, 0, found, limits);
    }
    if (answer > 1 && key) {
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(found);

        if (at[2] != PCRE2_UNSET)
            *key = (struct regexp_key){subject + at[2], at[3] - at[2]};
    }
    pcre2_match_data_free(found);
    pcre2_match_context_free(limits);
    if (answer == PCRE2_ERROR_NOMEMORY)
        err_set(e, ERR_MEMORY, "regular expression: no memory");
    else if (answer < 0 && answer != PCRE2_ERROR_NOMATCH)
        err_set(e, ERR_BUDGET, "the regular expression needs too many steps for this text");
    return answer > 0;
}

bool glob_match(const char *pattern, size_t pattern_len, const char *subject, size_t len)
{
    size_t p = 0, s = 0, star = 0, resume = 0;
    bool starred = false;

    while (s < len) {
        if (p < pattern_len && pattern[p] == '*') {
            starred = true; /* only the last star seen ever needs to take more */
            star = ++p;
            resume = s;
        } else if (p < pattern_len && pattern[p] == subject[s]) {
            p++;
            s++;
        } else if (starred) {
            p = star;
            s = ++resume;
        } else {
            return false;
        }
    }
    while (p < pattern_len && pattern[p] == '*')
        p++;
    return p == pattern_len;
}
