/* What core.sys has for loading: embedded files, chunks, modules and their files. Nothing here waits. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "api.h"
#include "bind.h"
#include "embed.h"
#include "host.h"

#define SLURP_MAX (1 << 20)

static int l_embedded(lua_State *L)
{
    struct embed e;

    if (!embed_find(luaL_checkstring(L, 1), &e))
        return 0;
    lua_pushlstring(L, e.text, e.len);
    return 1;
}

static int l_embedded_list(lua_State *L)
{
    size_t n = embed_count();

    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_pushstring(L, embed_at(i).path);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* compile(text, chunkname, env): a function of a text chunk, or nil and the message. Never binary. */
static int l_compile(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len), *name = luaL_checkstring(L, 2);

    luaL_checktype(L, 3, LUA_TTABLE);
    if (luaL_loadbufferx(L, text, len, name, "t") != LUA_OK) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushvalue(L, 3);
    lua_setupvalue(L, -2, 1);
    return 1;
}

/* embedded_module(path, env): the function of an embedded module, or nil. The only byte code that is ever
 * loaded is the binary's own: Lua does not check it. */
static int l_embedded_module(lua_State *L)
{
    struct embed e;

    luaL_checktype(L, 2, LUA_TTABLE);
    if (!embed_find(luaL_checkstring(L, 1), &e) || !e.code)
        return 0;
    if (luaL_loadbufferx(L, e.code, e.code_len, e.path, "b") != LUA_OK)
        return lua_error(L);
    lua_pushvalue(L, 2);
    lua_setupvalue(L, -2, 1);
    return 1;
}

/* module(loading, name, fn): calls fn(name) with loading[name] set, without giving the turn away: a module
 * that another task finds half loaded would be loaded twice, and its locks with it. The mark goes even when
 * the task is cut in between; no Lua could see to that. */
static int l_module(lua_State *L)
{
    struct host *host = bind_host(L);
    int status;

    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkstring(L, 2);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    lua_settop(L, 3);
    luaL_checkstack(L, 8, "module");
    lua_pushvalue(L, 2);
    lua_pushboolean(L, 1);
    lua_rawset(L, 1);
    lua_pushvalue(L, 3);
    lua_pushvalue(L, 2);
    host->loading++;
    status = lua_pcall(L, 1, 0, 0); /* without a continuation nothing inside can yield */
    host->loading--;
    lua_pushvalue(L, 2);
    lua_pushnil(L);
    lua_rawset(L, 1);
    return status == LUA_OK ? 0 : lua_error(L);
}

/* What slurp needs to know of a file, and its descriptor; the descriptor is -1 with *why set when it is not
 * to be read, and *why is NULL when there is no such file. Opening never waits for the other end of a pipe.
 * The descriptor is judged, not the path: that may lead to another file by now. */
static int slurp_open(const char *path, bool trusted, size_t *size, const char **why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    *why = NULL;
    if (fd < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            *why = strerror(errno);
        return -1;
    }
    if (fstat(fd, &st) != 0)
        *why = strerror(errno);
    else if (!S_ISREG(st.st_mode))
        *why = "not a regular file";
    else if (st.st_size > SLURP_MAX)
        *why = "larger than 1 MiB";
    else if (trusted && st.st_uid != 0 && st.st_uid != geteuid())
        *why = "belongs to another user";
    else if (trusted && st.st_mode & (S_IWGRP | S_IWOTH))
        *why = "may be written by others";
    if (*why) {
        close(fd);
        return -1;
    }
    *size = (size_t)st.st_size;
    return fd;
}

/* All that is there, up to `room` bytes; -1 with errno set. */
static ssize_t slurp_read(int fd, char *to, size_t room)
{
    size_t len = 0;

    while (len < room) {
        ssize_t n = read(fd, to + len, room - len);

        if (n < 0 && errno != EINTR)
            return -1;
        if (n == 0)
            break;
        if (n > 0)
            len += (size_t)n;
    }
    return (ssize_t)len;
}

static int slurp_refuse(lua_State *L, const char *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why);
    return why ? 2 : 1;
}

/* slurp(path [, trusted]): a small file at once, for module look-up only; nil when it is not there, nil and
 * why when it cannot be read as a whole. With `trusted` it has to be root's or our own, and writable for
 * nobody else. No descriptor is held while Lua may raise. */
static int l_slurp(lua_State *L)
{
    const char *path = bind_text(L, 1, "sys.slurp(path [, trusted])"), *why;
    bool trusted = lua_toboolean(L, 2);
    size_t size = 0, room;
    ssize_t len;
    char *to;
    int fd = slurp_open(path, trusted, &size, &why);

    if (fd < 0)
        return slurp_refuse(L, why);
    close(fd);
    room = size + 1; /* one more tells that it grew */
    to = lua_newuserdatauv(L, room, 0);
    fd = slurp_open(path, trusted, &size, &why);
    if (fd < 0)
        return slurp_refuse(L, why);
    len = slurp_read(fd, to, room);
    why = len < 0 ? strerror(errno) : "it changed while it was read";
    close(fd);
    if (len < 0 || (size_t)len == room || (size_t)len < size)
        return slurp_refuse(L, why);
    lua_pushlstring(L, to, (size_t)len);
    return 1;
}

/* Adds the functions to the table on top. */
void load_register(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"embedded", l_embedded},
        {"embedded_list", l_embedded_list},
        {"compile", l_compile},
        {"embedded_module", l_embedded_module},
        {"module", l_module},
        {"slurp", l_slurp},
        {NULL, NULL},
    };

    luaL_setfuncs(L, functions, 0);
}
