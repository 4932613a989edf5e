/* URLs as curl itself understands them, so that what is judged is what is connected to. Knows no Lua. */
#ifndef MOONTIDE_HTTP_URL_H
#define MOONTIDE_HTTP_URL_H

#include <stdbool.h>
#include <curl/curl.h>
#include "err.h"

struct http_url {
    CURLU *parsed;
    char *url;             /* without user, password and fragment */
    char *scheme;          /* "http" or "https" */
    char *host;            /* lower case; IPv6 in brackets; numbers in any spelling are normalised */
    char *port;            /* always there */
    char *path;            /* starts with a slash */
    char *query;           /* NULL when there is none */
    char *user, *password; /* decoded; NULL when there are none */
};

/* Parses `text`, relative to `base` when that is not NULL (a Location header: white space and bytes outside
 * of ASCII are then encoded instead of refused). `out` is zeroed memory; free it in any case. */
bool http_url_parse(struct http_url *out, const char *text, const char *base, struct err *e);
void http_url_free(struct http_url *url);

/* Frees the texts; `parsed`, which then names no user, stays for http_request.parsed. */
void http_url_trim(struct http_url *url);

#endif
