/* The head of a request, copied and checked: nothing ambiguous gets past here.
 *
 * The library is lenient where two readers of one request might disagree (a length given twice, a length
 * beside chunks, a space before the colon). Such a request is refused and its connection closed, so that no
 * byte of it is ever taken for a second request. Called by serve_request.c. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "serve_impl.h"

#define METHOD_MAX 16

void serve_refuse(struct serve_request *r, unsigned status, const char *why)
{
    if (r->refusal)
        return;
    r->refusal = why;
    r->status = status;
}

static bool is_token(const char *text, size_t len)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i], lower = c | 0x20;

        if (!(c >= '0' && c <= '9') && !(lower >= 'a' && lower <= 'z') && (!c || !strchr(marks, c)))
            return false;
    }
    return len > 0;
}

static bool is_printable(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f)
            return false;
    return true;
}

bool serve_field_ok(const char *name, size_t name_len, const char *value, size_t value_len)
{
    static const char *const framing[] = {"content-length", "transfer-encoding", "date"};

    for (size_t i = 0; i < sizeof framing / sizeof *framing; i++)
        if (strcasecmp(name, framing[i]) == 0)
            return false;
    return is_token(name, name_len) && is_printable(value, value_len);
}

struct reading {
    struct serve_request *r;
    size_t cap;
    bool failed;
};

static enum MHD_Result add_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len,
                                  const char *value, size_t value_len)
{
    struct reading *reading = cls;
    struct serve_request *r = reading->r;
    struct serve_header h = {.value_len = value_len};

    (void)kind;
    if (!is_token(name, name_len) || !is_printable(value, value_len))
        serve_refuse(r, 400, "a malformed header");
    if (r->header_count == reading->cap) {
        size_t cap = reading->cap ? reading->cap * 2 : 16;
        struct serve_header *more = realloc(r->headers, cap * sizeof *more);

        if (!more)
            goto failed;
        r->headers = more;
        reading->cap = cap;
    }
    h.name = malloc(name_len + value_len + 2);
    if (!h.name)
        goto failed;
    h.value = h.name + name_len + 1;
    memcpy(h.name, name, name_len);
    h.name[name_len] = '\0';
    if (value_len)
        memcpy(h.value, value, value_len);
    h.value[value_len] = '\0';
    r->headers[r->header_count++] = h;
    return MHD_YES;

failed:
    reading->failed = true;
    return MHD_NO;
}

/* How often a header occurs; *value is its first. */
static size_t occurrences(const struct serve_request *r, const char *name, const char **value)
{
    size_t count = 0;

    *value = NULL;
    for (size_t i = 0; i < r->header_count; i++)
        if (strcasecmp(r->headers[i].name, name) == 0 && count++ == 0)
            *value = r->headers[i].value;
    return count;
}

static void check_length(struct serve_request *r, bool http11)
{
    const char *length, *coding;
    size_t lengths = occurrences(r, "content-length", &length);
    size_t codings = occurrences(r, "transfer-encoding", &coding);

    if (lengths > 1 || codings > 1 || (lengths && codings) || (codings && !http11))
        serve_refuse(r, 400, "its length is given more than once");
    else if (codings && strcasecmp(coding, "chunked") != 0)
        serve_refuse(r, 501, "an unknown transfer coding");
    r->chunked = codings > 0;
    if (!lengths)
        return;
    if (!*length || length[strspn(length, "0123456789")])
        serve_refuse(r, 400, "a malformed length");
    else if (strlen(length) > 18 ||
             (r->length = (size_t)strtoull(length, NULL, 10)) > r->serve->options.max_body)
        serve_refuse(r, 413, "a body over the limit");
}

static void check_head(struct serve_request *r)
{
    const char *host;
    bool http11 = strcmp(r->version, "HTTP/1.1") == 0;
    size_t hosts = occurrences(r, "host", &host), method = strlen(r->method);

    if (!http11 && strcmp(r->version, "HTTP/1.0") != 0)
        serve_refuse(r, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    if (method > METHOD_MAX || r->method[strspn(r->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-")])
        serve_refuse(r, 400, "a malformed method");
    if (hosts > 1 || (http11 && !hosts))
        serve_refuse(r, 400, "exactly one Host header is needed");
    if (r->target[0] != '/')
        serve_refuse(r, 400, "the target must begin with a slash");
    for (const char *c = r->target; *c; c++)
        if (*c <= ' ' || *c > '~')
            serve_refuse(r, 400, "a malformed target");
    check_length(r, http11);
}

bool serve_head(struct serve_request *r, struct MHD_Connection *mhd, const char *method, const char *version)
{
    struct reading reading = {.r = r};

    r->method = strdup(method);
    r->version = strdup(version);
    if (!r->method || !r->version)
        return false;
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, add_header, &reading);
    if (reading.failed)
        return false;
    check_head(r);
    return true;
}

void serve_head_free(struct serve_request *r)
{
    for (size_t i = 0; i < r->header_count; i++)
        free(r->headers[i].name);
    free(r->headers);
    free(r->method);
    free(r->target);
    free(r->version);
}
