/* URLs, and Locations relative to them: the first line is a URL, the second one a Location. What is judged
 * must be what is connected to: an understood URL is understood again as itself, its text names the judged
 * origin, and nothing of a user or a line break is left in it. */
#include "fuzz.h"

#include "http_url.h"

/* Slow and plain: host and port between "://" and the path. */
static void check_text(const struct http_url *u)
{
    const char *authority = strstr(u->url, "://") + 3;
    size_t len = strcspn(authority, "/?"), host_len = len;
    const char *colon = NULL, *port = strcmp(u->scheme, "https") == 0 ? "443" : "80";

    HOLDS(strncmp(u->url, u->scheme, strlen(u->scheme)) == 0);
    for (size_t i = 0; i < len; i++) {
        HOLDS(authority[i] != '@' && authority[i] != '\\');
        if (authority[i] == ':')
            colon = authority + i;
    }
    if (colon && !memchr(colon, ']', len - (size_t)(colon - authority))) {
        host_len = (size_t)(colon - authority);
        HOLDS(strlen(u->port) == len - host_len - 1 && memcmp(colon + 1, u->port, strlen(u->port)) == 0);
    } else {
        HOLDS(strcmp(u->port, port) == 0);
    }
    HOLDS(strlen(u->host) == host_len && memcmp(u->host, authority, host_len) == 0);
    for (const char *c = u->url; *c; c++)
        HOLDS((unsigned char)*c > 0x1f && *c != 0x7f && *c != '#');
    HOLDS(authority[len] == '/');
}

static void check(const char *text, const char *base)
{
    struct http_url u = {0}, again = {0};
    struct err e = {0};

    if (http_url_parse(&u, text, base, &e)) {
        HOLDS(strcmp(u.scheme, "http") == 0 || strcmp(u.scheme, "https") == 0);
        check_text(&u);
        HOLDS(http_url_parse(&again, u.url, NULL, &e));
        HOLDS(strcmp(again.url, u.url) == 0 && strcmp(again.scheme, u.scheme) == 0);
        HOLDS(strcmp(again.host, u.host) == 0 && strcmp(again.port, u.port) == 0);
        HOLDS(!again.user && !again.password);
    } else {
        HOLDS(e.code && e.message[0]);
    }
    http_url_free(&u);
    http_url_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {(const char *)data, (const char *)data + size};
    struct fuzz_piece first = fuzz_line(&in), second = fuzz_line(&in);
    char *url = strndup(first.data, first.len), *location = strndup(second.data, second.len);
    struct http_url base = {0};
    struct err e = {0};

    check(url, NULL);
    if (http_url_parse(&base, url, NULL, &e)) {
        struct http_url there = {0};

        check(location, base.url);
        if (location[0] == '/' && location[1] != '/' && location[1] != '\\' &&
            http_url_parse(&there, location, base.url, &e))
            HOLDS(strcmp(there.host, base.host) == 0 && strcmp(there.port, base.port) == 0);
        http_url_free(&there);
    }
    http_url_free(&base);
    free(url);
    free(location);
    return 0;
}
