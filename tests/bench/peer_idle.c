/* B2's peer: the libraries alone. A host that does nothing: a loop, curl's multi handle, an open database, an
 * HTTP server on loopback, a Lua state with its libraries; then it waits for its stdin to end. */
#include <curl/curl.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <microhttpd.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include <yaml.h>

static enum MHD_Result on_request(void *own, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *body, size_t *len,
                                  void **state)
{
    (void)own, (void)connection, (void)url, (void)method, (void)version, (void)body, (void)len, (void)state;
    return MHD_NO;
}

int main(void)
{
    uv_loop_t loop;
    CURLM *multi;
    sqlite3 *db;
    struct MHD_Daemon *daemon;
    lua_State *L = luaL_newstate();
    yaml_parser_t parser;
    char byte;

    uv_loop_init(&loop);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    multi = curl_multi_init();
    sqlite3_open("", &db);
    sqlite3_exec(db, "CREATE TABLE run(id INTEGER PRIMARY KEY, state TEXT)", NULL, NULL, NULL);
    daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, NULL, MHD_OPTION_END);
    luaL_openlibs(L);
    yaml_parser_initialize(&parser);
    uv_run(&loop, UV_RUN_NOWAIT);
    puts("idle");
    fflush(stdout);
    if (read(STDIN_FILENO, &byte, 1) < 0)
        return 1;
    yaml_parser_delete(&parser);
    lua_close(L);
    MHD_stop_daemon(daemon);
    sqlite3_close(db);
    curl_multi_cleanup(multi);
    uv_loop_close(&loop);
    return 0;
}
