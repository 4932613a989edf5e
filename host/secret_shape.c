/* Secrets known by their shape: never registered, but recognisable as a credential.
 *
 * Three shapes: the password in a URL's authority, the value after "authorization", and tokens whose issuer
 * gave them a prefix of their own. Knows no registry and keeps nothing; called after the filter by value, so
 * that a mark is never marked again. */
#include "secret.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

struct span {
    size_t start, end;
};

/* Prefixes as GitHub, GitLab and Slack document them; each with how much must follow at least. */
static const struct {
    const char *prefix;
    size_t least;
} issued[] = {
    {"ghp_", 16},  {"gho_", 16},        {"ghu_", 16},   {"ghs_", 16},
    {"ghr_", 16},  {"github_pat_", 16}, {"glpat-", 16}, {"xoxb-", 16},
    {"xoxp-", 16}, {"xoxa-", 16},       {"xoxs-", 16},  {"hooks.slack.com/services/", 8},
};

static bool token_char(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("-._~+/=%", c));
}

static size_t token_end(const char *text, size_t at, size_t len)
{
    while (at < len && token_char(text[at]))
        at++;
    return at;
}

/* "://user:password@": the last @ before the authority ends. */
static bool url_password(const char *text, size_t at, size_t len, struct span *out)
{
    size_t colon = 0, last = 0;

    if (len - at < 4 || memcmp(text + at, "://", 3) != 0)
        return false;
    for (size_t i = at + 3; i < len && (unsigned char)text[i] > ' ' && !strchr("/?#\"'<>\\", text[i]); i++) {
        if (text[i] == ':' && !colon)
            colon = i;
        if (text[i] == '@')
            last = i;
    }
    *out = (struct span){colon + 1, last};
    return colon && last > colon + 1;
}

/* "Authorization: Bearer x", "authorization":"x", in whatever quoting. */
static bool authorization(const char *text, size_t at, size_t len, struct span *out)
{
    static const char *const schemes[] = {"basic ", "bearer ", "token "};
    const char name[] = "authorization";
    bool named = false;

    if (len - at < sizeof name || strncasecmp(text + at, name, sizeof name - 1) != 0)
        return false;
    at += sizeof name - 1;

    size_t value = at;

    for (; value < len && text[value] && strchr("\\\"': =", text[value]); value++)
        named = named || text[value] == ':' || text[value] == '=';
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t n = strlen(schemes[i]);

        if (len - value > n && strncasecmp(text + value, schemes[i], n) == 0) {
            value += n;
            break;
        }
    }
    *out = (struct span){value, token_end(text, value, len)};
    return named && out->end - value >= 4;
}

static bool issued_token(const char *text, size_t at, size_t len, struct span *out)
{
    for (size_t i = 0; i < sizeof issued / sizeof *issued; i++) {
        size_t n = strlen(issued[i].prefix);

        if (len - at < n + issued[i].least || memcmp(text + at, issued[i].prefix, n) != 0)
            continue;
        *out = (struct span){at + n, token_end(text, at + n, len)};
        if (out->end - out->start >= issued[i].least)
            return true;
    }
    return false;
}

static bool shape_at(const char *text, size_t at, size_t len, struct span *out)
{
    switch (text[at]) {
    case ':':
        return url_password(text, at, len, out);
    case 'a':
    case 'A':
        return authorization(text, at, len, out);
    case 'g':
    case 'x':
    case 'h': /* most words with these letters end here */
        return at + 1 < len && strchr("hilo", text[at + 1]) && issued_token(text, at, len, out);
    default:
        return false;
    }
}

bool secrets_shapes(const char *text, size_t len, struct buf *out)
{
    size_t shown = 0, before = out->len;
    struct span hit;

    for (size_t at = 0; at < len; at++) {
        if (!shape_at(text, at, len, &hit))
            continue;
        if (!buf_add(out, text + shown, hit.start - shown) || !buf_text(out, SECRET_MARK))
            goto full;
        shown = hit.end;
        at = hit.end - 1;
    }
    if (len > shown && !buf_add(out, text + shown, len - shown))
        goto full;
    return true;

full:
    out->len = before;
    return false;
}
