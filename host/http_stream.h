/* A streamed HTTP answer as a Lua handle; used by api_http.c. */
#ifndef MOONTIDE_HTTP_STREAM_H
#define MOONTIDE_HTTP_STREAM_H

#include <lua.h>
#include "http_job.h"

/* Pushes a handle that owns *job from then on (*job becomes NULL). */
void http_stream_push(lua_State *L, struct http_job **job);

/* Makes the handle's class. */
void http_stream_register(lua_State *L);

#endif
