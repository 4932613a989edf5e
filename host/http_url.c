/* URLs by curl's own parser. The caller owns the struct; its strings are curl's. */
#include "http_url.h"

#include <ctype.h>
#include <string.h>

#define MAX_URL (16 * 1024)

void http_url_trim(struct http_url *u)
{
    char **texts[] = {&u->url, &u->scheme, &u->host, &u->port, &u->path, &u->query, &u->user, &u->password};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (texts[i] == &u->password && u->password)
            explicit_bzero(u->password, strlen(u->password));
        curl_free(*texts[i]);
        *texts[i] = NULL;
    }
}

void http_url_free(struct http_url *u)
{
    http_url_trim(u);
    curl_url_cleanup(u->parsed);
    u->parsed = NULL;
}

static bool fail(struct err *e, CURLUcode code)
{
    switch (code) {
    case CURLUE_OUT_OF_MEMORY:
        err_set(e, ERR_MEMORY, "not enough memory for a URL");
        break;
    case CURLUE_UNSUPPORTED_SCHEME:
        err_set(e, ERR_UNSUPPORTED, "only http and https URLs are understood");
        break;
    default:
        err_set(e, ERR_INVALID, "not a URL: %s", curl_url_strerror(code));
    }
    return false;
}

/* An optional part; absent ones stay NULL. */
static bool get(CURLU *parsed, CURLUPart part, char **out, unsigned flags, CURLUcode *code)
{
    *code = curl_url_get(parsed, part, out, flags);
    switch (*code) {
    case CURLUE_OK:
    case CURLUE_NO_USER:
    case CURLUE_NO_PASSWORD:
    case CURLUE_NO_QUERY:
        return true;
    default:
        return false;
    }
}

/* Names that differ in case only are one host. A percent sign that is left after decoding is no part of a
 * name, and would be written differently than it was judged. */
static bool lower_host(struct http_url *u, CURLUcode *code)
{
    bool changed = false;
    char *zone = NULL;

    *code = CURLUE_BAD_HOSTNAME;
    if (curl_url_get(u->parsed, CURLUPART_ZONEID, &zone, 0) == CURLUE_OK) {
        curl_free(zone); /* of an IPv6 address: not a part of what curl calls the host */
        return false;
    }
    for (char *c = u->host; *c; c++) {
        if ((unsigned char)*c <= ' ' || *c == 0x7f || strchr("%\"<>\\^`{|}", *c))
            return false;
        changed = changed || tolower((unsigned char)*c) != (unsigned char)*c;
        *c = (char)tolower((unsigned char)*c);
    }
    *code = changed ? curl_url_set(u->parsed, CURLUPART_HOST, u->host, 0) : CURLUE_OK;
    return *code == CURLUE_OK;
}

/* Some spellings of a host are normalised only when the URL is read once more ("%31" is the number 1, which
 * is the address 0.0.0.1): what is judged must not have such a second meaning. */
static bool settled(struct http_url *u, CURLUcode *code)
{
    char *host = NULL;

    *code = curl_url_set(u->parsed, CURLUPART_URL, u->url, 0);
    if (*code == CURLUE_OK)
        *code = curl_url_get(u->parsed, CURLUPART_HOST, &host, 0);
    if (*code == CURLUE_OK && strcmp(host, u->host) != 0)
        *code = CURLUE_BAD_HOSTNAME;
    curl_free(host);
    return *code == CURLUE_OK;
}

bool http_url_parse(struct http_url *u, const char *text, const char *base, struct err *e)
{
    unsigned flags = base ? CURLU_URLENCODE | CURLU_ALLOW_SPACE : 0;
    CURLUcode code = CURLUE_OK;

    if (strlen(text) > MAX_URL) {
        err_set(e, ERR_TOO_LARGE, "the URL is longer than 16 KiB");
        return false;
    }
    u->parsed = curl_url();
    if (!u->parsed)
        return fail(e, CURLUE_OUT_OF_MEMORY);
    if (base && (code = curl_url_set(u->parsed, CURLUPART_URL, base, 0)) != CURLUE_OK)
        return fail(e, code);
    if ((code = curl_url_set(u->parsed, CURLUPART_URL, text, flags)) != CURLUE_OK)
        return fail(e, code);
    if (!get(u->parsed, CURLUPART_SCHEME, &u->scheme, 0, &code))
        return fail(e, code);
    if (strcmp(u->scheme, "http") != 0 && strcmp(u->scheme, "https") != 0)
        return fail(e, CURLUE_UNSUPPORTED_SCHEME);
    if (!get(u->parsed, CURLUPART_USER, &u->user, CURLU_URLDECODE, &code) ||
        !get(u->parsed, CURLUPART_PASSWORD, &u->password, CURLU_URLDECODE, &code) ||
        !get(u->parsed, CURLUPART_HOST, &u->host, 0, &code) ||
        !get(u->parsed, CURLUPART_PORT, &u->port, CURLU_DEFAULT_PORT, &code) ||
        !get(u->parsed, CURLUPART_PATH, &u->path, 0, &code) ||
        !get(u->parsed, CURLUPART_QUERY, &u->query, 0, &code))
        return fail(e, code);
    if (!lower_host(u, &code))
        return fail(e, code);
    if ((code = curl_url_set(u->parsed, CURLUPART_USER, NULL, 0)) != CURLUE_OK ||
        (code = curl_url_set(u->parsed, CURLUPART_PASSWORD, NULL, 0)) != CURLUE_OK ||
        (code = curl_url_set(u->parsed, CURLUPART_FRAGMENT, NULL, 0)) != CURLUE_OK ||
        (code = curl_url_get(u->parsed, CURLUPART_URL, &u->url, 0)) != CURLUE_OK || !settled(u, &code))
        return fail(e, code);
    return true;
}
