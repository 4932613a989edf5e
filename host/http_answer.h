/* A finished job's answer as Lua values; used by api_http.c. */
#ifndef MOONTIDE_HTTP_ANSWER_H
#define MOONTIDE_HTTP_ANSWER_H

#include <lua.h>
#include "http_job.h"

/* Pushes {status=, elapsed=, http_version=, url=, body=, [1] = raw headers}; the URL is the string at
 * `url`. A redirecting status has location= (true when there are several) and peer_private=
 * as well. */
void http_answer_push(lua_State *L, const struct http_job *job, int url);

/* Pushes {map, repeated or nil, names} of raw headers: map has each name's first value, repeated the lists of
 * all values, names the order. */
void http_answer_headers(lua_State *L, const char *raw, size_t len);

#endif
