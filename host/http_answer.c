/* A finished job's answer as Lua values.
 *
 * Most polls look at nothing but the status, so headers are handed over as one string and taken apart when a
 * script asks for them. */
#include "http_answer.h"

#include <string.h>
#include <lauxlib.h>

/* The only value of a header, by its lower-case name; sets *several when there are more. */
static const char *find(const struct http_job *job, const char *name, bool *several)
{
    const char *at = job->head.data, *found = NULL;

    *several = false;
    for (size_t i = 0; at && i < job->head_len; i++) {
        const char *value = at + strlen(at) + 1;

        if (strcmp(at, name) == 0) {
            *several = found != NULL;
            found = found ? found : value;
        }
        at = value + strlen(value) + 1;
    }
    return found;
}

static void push_redirect(lua_State *L, const struct http_job *job)
{
    bool several;
    const char *location = find(job, "location", &several);

    if (!location)
        return;
    if (several)
        lua_pushboolean(L, true);
    else
        lua_pushstring(L, location);
    lua_setfield(L, -2, "location");
    lua_pushboolean(L, job->peer_private);
    lua_setfield(L, -2, "peer_private");
}

void http_answer_push(lua_State *L, const struct http_job *job, int url)
{
    luaL_checkstack(L, 4, "http");
    lua_createtable(L, 1, 8);
    lua_pushlstring(L, job->head.data ? job->head.data : "", job->head.len);
    lua_rawseti(L, -2, 1);
    lua_pushinteger(L, job->status);
    lua_setfield(L, -2, "status");
    lua_pushnumber(L, job->elapsed);
    lua_setfield(L, -2, "elapsed");
    lua_pushstring(L, job->http_version == 20 ? "2" : job->http_version == 10 ? "1.0" : "1.1");
    lua_setfield(L, -2, "http_version");
    lua_pushvalue(L, url);
    lua_setfield(L, -2, "url");
    if (!job->stream) {
        lua_pushlstring(L, job->body.data ? job->body.data : "", job->body.len);
        lua_setfield(L, -2, "body");
    }
    if (job->status / 100 == 3)
        push_redirect(L, job);
}

/* stack: ... headers map names name. Adds the value to the list of that name's values. Pops the name. */
static void add_repeated(lua_State *L, int headers, int map, const char *value, size_t len)
{
    if (lua_rawgeti(L, headers, 2) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawseti(L, headers, 2);
    } /* name repeated */
    lua_pushvalue(L, -2);
    if (lua_rawget(L, -2) == LUA_TNIL) { /* name repeated nil */
        lua_pop(L, 1);
        lua_createtable(L, 2, 0); /* name repeated values */
        lua_pushvalue(L, -3);
        lua_rawget(L, map);
        lua_rawseti(L, -2, 1);
        lua_pushvalue(L, -3);
        lua_pushvalue(L, -2);
        lua_rawset(L, -4);
    } /* name repeated values */
    lua_pushlstring(L, value, len);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 3);
}

void http_answer_headers(lua_State *L, const char *raw, size_t len)
{
    const char *end = raw + len;
    lua_Integer names = 0;
    int headers;

    luaL_checkstack(L, 10, "http");
    lua_createtable(L, 3, 0);
    headers = lua_gettop(L);
    lua_newtable(L); /* headers map */
    lua_newtable(L); /* headers map names */
    while (raw < end) {
        size_t name_len = strlen(raw), value_len; /* Lua has put a NUL at the end */
        const char *value = raw + name_len + 1;

        if (value > end)
            break; /* not what http_answer_push has made */
        value_len = strlen(value);
        lua_pushlstring(L, raw, name_len);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, headers + 1) == LUA_TNIL) { /* headers map names name nil */
            lua_pop(L, 1);
            lua_pushvalue(L, -1);
            lua_rawseti(L, headers + 2, ++names);
            lua_pushlstring(L, value, value_len);
            lua_rawset(L, headers + 1);
        } else {
            lua_pop(L, 1);
            add_repeated(L, headers, headers + 1, value, value_len);
        }
        raw = value + value_len + 1;
    }
    lua_rawseti(L, headers, 3);
    lua_rawseti(L, headers, 1);
}
