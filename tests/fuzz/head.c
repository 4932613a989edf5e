/* Response heads, line by line, as libcurl hands them over. What was taken must be pairs of a lower-case name
 * and a value, within the limits, and Lua must get the same out of it. */
#include "fuzz.h"

#include <ctype.h>
#include <lauxlib.h>
#include <lua.h>
#include "api.h"
#include "http_job.h"

static void check_pairs(const struct http_job *job)
{
    const char *at = job->head.data, *end = job->head.data ? at + job->head.len : NULL;

    HOLDS(job->head.len <= HTTP_MAX_HEAD + 2 * HTTP_MAX_HEADERS && job->head_len <= HTTP_MAX_HEADERS);
    for (size_t i = 0; i < job->head_len; i++) {
        size_t name_len = strlen(at);

        HOLDS(name_len > 0);
        for (size_t j = 0; j < name_len; j++)
            HOLDS(!isupper((unsigned char)at[j]) && at[j] != '\n' && at[j] != ':');
        at += name_len + 1;
        HOLDS(at < end);
        HOLDS(!strpbrk(at, "\n"));
        at += strlen(at) + 1;
        HOLDS(at <= end);
    }
    HOLDS(at == end);
}

static void check_lua(lua_State *L, const struct http_job *job)
{
    lua_Integer names;
    size_t values = 0;

    luaopen_core_http(L);
    lua_getfield(L, -1, "headers");
    lua_pushlstring(L, job->head.data ? job->head.data : "", job->head.len);
    lua_call(L, 1, 1);
    lua_rawgeti(L, -1, 3);
    names = (lua_Integer)lua_rawlen(L, -1);
    for (lua_Integer i = 1; i <= names; i++) {
        lua_rawgeti(L, -2, 2);
        lua_rawgeti(L, -2, i);
        if (lua_isnil(L, -2)) {
            lua_pop(L, 2);
            values++;
            continue;
        }
        lua_rawget(L, -2);
        values += lua_isnil(L, -1) ? 1 : lua_rawlen(L, -1);
        lua_pop(L, 2);
    }
    HOLDS(values == job->head_len);
    lua_settop(L, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    static struct curl_transfer transfer;
    struct http_job job = {.source_fd = -1, .transfer = &transfer};
    struct fuzz_input in = {(const char *)data, (const char *)data + size};

    if (!L) {
        L = luaL_newstate();
        transfer.easy = curl_easy_init();
    }
    transfer.data = &job;
    while (in.at < in.end) {
        struct fuzz_piece piece = fuzz_line(&in);
        size_t len = piece.len + (piece.data + piece.len < in.end || in.at > piece.data + piece.len);
        char *line = malloc(len ? len : 1); /* its own block, so that a step beyond is seen */

        if (!len)
            free(line);
        if (!len)
            break;
        memcpy(line, piece.data, len);
        if (http_on_header(line, 1, len, &transfer) != len) {
            HOLDS(job.err.code != ERR_NONE);
            free(line);
            break;
        }
        free(line);
        check_pairs(&job);
    }
    check_pairs(&job);
    check_lua(L, &job);
    buf_free(&job.head);
    return 0;
}
