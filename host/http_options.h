/* What a script asks for, read from its tables; used by api_http.c. Everything here raises on a mistake. */
#ifndef MOONTIDE_HTTP_OPTIONS_H
#define MOONTIDE_HTTP_OPTIONS_H

#include <lua.h>
#include "http_job.h"

/* Texts belong to the Lua tables, which must stay on the stack until the job has started. Both are made plain
 * (bind.h), and nothing between reading and starting runs a script. */
struct http_options {
    struct http_request request;
    const char *user, *password, *bearer, *etag; /* NULL: not given */
    size_t user_len, password_len, bearer_len, etag_len;
    size_t headers, bytes; /* of all request headers */
};

#define HTTP_USAGE "http.request{method=, url= [, options]}"

/* Reads the option table at `options` (nil is fine) and measures the headers of the table at `headers`.
 * Leaves the body on top of the stack (or nil), so that it outlives the option table. */
void http_options_read(lua_State *L, int options, int headers, struct http_options *out);

/* Adds all headers to the job. */
void http_options_headers(lua_State *L, int headers, const struct http_options *o, struct http_job *job);

#endif
