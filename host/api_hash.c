/* Digests and encodings for Lua: core.hash over libcrypto, wrapped by stdlib/hash.lua.
 *
 * Only sha256_file waits (on the thread pool). SHA-256 is asked for by its plain functions, which cannot
 * fail: the first digest through EVP loads providers and configuration, 2 MiB and a millisecond that a host
 * without TLS does not need. */
#define OPENSSL_API_COMPAT 0x10100000L
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include "api.h"
#include "bind.h"
#include "codec.h"
#include "err_lua.h"
#include "work.h"

#define HASHER_CLASS "hash.sha256"

enum { DIGEST = 32, READ_CHUNK = 64 * 1024, RANDOM_MAX = 1 << 20 };

static int push_digest(lua_State *L, const unsigned char digest[DIGEST])
{
    char text[2 * DIGEST];

    hex_encode(text, digest, DIGEST);
    lua_pushlstring(L, text, sizeof text);
    return 1;
}

static void digest_of(unsigned char digest[DIGEST], const void *data, size_t len)
{
    SHA256_CTX context;

    SHA256_Init(&context);
    SHA256_Update(&context, data, len);
    SHA256_Final(digest, &context);
}

static int l_sha256(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    unsigned char digest[DIGEST];

    digest_of(digest, data, len);
    return push_digest(L, digest);
}

static int l_hmac_sha256(lua_State *L)
{
    size_t key_len, len;
    const char *key = luaL_checklstring(L, 1, &key_len), *data = luaL_checklstring(L, 2, &len);
    unsigned char digest[DIGEST];

    luaL_argcheck(L, key_len <= INT_MAX, 1, "the key is too long");
    if (!HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)data, len, digest, NULL))
        return err_throw(L, ERR_MEMORY, "hash.hmac_sha256", NULL, "libcrypto failed");
    return push_digest(L, digest);
}

struct hasher {
    SHA256_CTX context;
    bool closed;
};

static struct hasher *hasher_self(lua_State *L)
{
    struct hasher *h = bind_self(L, 1, HASHER_CLASS);

    luaL_argcheck(L, !h->closed, 1, "the hasher is closed");
    return h;
}

static int l_new(lua_State *L)
{
    struct hasher *h = bind_new(L, sizeof *h, HASHER_CLASS);

    SHA256_Init(&h->context);
    return 1;
}

static int l_update(lua_State *L)
{
    struct hasher *h = hasher_self(L);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);

    SHA256_Update(&h->context, data, len);
    lua_settop(L, 1);
    return 1;
}

/* The digest of what was given so far; more may follow. */
static int l_hex(lua_State *L)
{
    SHA256_CTX copy = hasher_self(L)->context;
    unsigned char digest[DIGEST];

    SHA256_Final(digest, &copy);
    return push_digest(L, digest);
}

static int l_close(lua_State *L)
{
    struct hasher *h = bind_self(L, 1, HASHER_CLASS);

    h->closed = true;
    return 0;
}

struct file_work {
    struct work work;
    char *path;
    unsigned char digest[DIGEST];
    long long size;
};

/* The digest of the whole file. Anything but a regular file is refused: it might never end. */
static bool digest_file(struct file_work *w, int fd, void *chunk)
{
    SHA256_CTX context;
    struct stat st;
    ssize_t got;

    if (fstat(fd, &st) != 0) {
        err_errno(&w->work.err, errno, "cannot look at the file");
        return false;
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(&w->work.err, ERR_INVALID, "not a regular file");
        return false;
    }
    SHA256_Init(&context);
    while ((got = read(fd, chunk, READ_CHUNK)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            err_errno(&w->work.err, errno, "cannot read the file");
            return false;
        }
        w->size += got;
        SHA256_Update(&context, chunk, (size_t)got);
    }
    SHA256_Final(w->digest, &context);
    return true;
}

static void file_run(struct work *work)
{
    struct file_work *w = (struct file_work *)work;
    void *chunk = malloc(READ_CHUNK);
    int fd;

    if (!chunk) {
        err_set(&work->err, ERR_MEMORY, "no memory");
        return;
    }
    fd = open(w->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        err_errno(&work->err, errno, "cannot open the file");
    } else {
        digest_file(w, fd, chunk);
        close(fd);
    }
    free(chunk);
}

static void file_destroy(struct work *work)
{
    free(((struct file_work *)work)->path);
}

static int file_finish(lua_State *L, struct work *work)
{
    struct file_work *w = (struct file_work *)work;

    if (work->err.code != ERR_NONE)
        return err_return(L, &work->err, "hash.sha256_file", w->path);
    push_digest(L, w->digest);
    lua_pushinteger(L, w->size);
    return 2;
}

static int l_sha256_file(lua_State *L)
{
    const char *path = bind_text(L, 1, "hash.sha256_file(path)");
    struct file_work *w = work_new(L, sizeof *w, file_run, file_destroy);

    w->path = strdup(path);
    if (!w->path)
        return err_throw(L, ERR_MEMORY, "hash.sha256_file", path, "no memory");
    return work_wait(L, &w->work, file_finish);
}

/* Takes as long for the first different byte as for the last. Lengths are not secret. */
static int l_equal(lua_State *L)
{
    size_t a_len, b_len;
    const char *a = luaL_checklstring(L, 1, &a_len), *b = luaL_checklstring(L, 2, &b_len);

    lua_pushboolean(L, a_len == b_len && CRYPTO_memcmp(a, b, a_len) == 0);
    return 1;
}

static int l_hex_encode(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    luaL_Buffer out;

    hex_encode(luaL_buffinitsize(L, &out, 2 * len), data, len);
    luaL_pushresultsize(&out, 2 * len);
    return 1;
}

static int l_hex_decode(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    luaL_Buffer out;

    if (!hex_decode(luaL_buffinitsize(L, &out, len / 2), text, len))
        return err_fail(L, ERR_INVALID, "hash.unhex", NULL, "not pairs of hexadecimal digits");
    luaL_pushresultsize(&out, len / 2);
    return 1;
}

static int encode(lua_State *L, enum base64_kind kind)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    luaL_Buffer out;
    char *to = luaL_buffinitsize(L, &out, base64_encoded(len));

    luaL_pushresultsize(&out, base64_encode(to, data, len, kind));
    return 1;
}

static int decode(lua_State *L, enum base64_kind kind, const char *op)
{
    size_t len, out_len;
    const char *text = luaL_checklstring(L, 1, &len);
    luaL_Buffer out;
    char *to = luaL_buffinitsize(L, &out, base64_decoded(len));

    if (!base64_decode(to, &out_len, text, len, kind))
        return err_fail(L, ERR_INVALID, op, NULL, "not base64 as RFC 4648 has it");
    luaL_pushresultsize(&out, out_len);
    return 1;
}

static int l_base64(lua_State *L)
{
    return encode(L, BASE64);
}

static int l_unbase64(lua_State *L)
{
    return decode(L, BASE64, "hash.unbase64");
}

static int l_base64url(lua_State *L)
{
    return encode(L, BASE64_URL);
}

static int l_unbase64url(lua_State *L)
{
    return decode(L, BASE64_URL, "hash.unbase64url");
}

static int l_random(lua_State *L)
{
    lua_Integer n = luaL_checkinteger(L, 1);
    luaL_Buffer out;
    char *to;

    luaL_argcheck(L, n >= 0 && n <= RANDOM_MAX, 1, "from 0 to 1048576 bytes");
    to = luaL_buffinitsize(L, &out, (size_t)n);
    for (size_t have = 0; have < (size_t)n;) {
        ssize_t got = getrandom(to + have, (size_t)n - have, 0);

        if (got < 0 && errno != EINTR)
            return err_throw(L, ERR_INTERNAL, "hash.random", NULL, "the system has no random numbers");
        if (got > 0)
            have += (size_t)got;
    }
    luaL_pushresultsize(&out, (size_t)n);
    return 1;
}

static const luaL_Reg methods[] = {{"update", l_update}, {"hex", l_hex}, {"close", l_close}, {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"sha256", l_sha256},
    {"sha256_file", l_sha256_file},
    {"new", l_new},
    {"hmac_sha256", l_hmac_sha256},
    {"equal", l_equal},
    {"hex", l_hex_encode},
    {"unhex", l_hex_decode},
    {"base64", l_base64},
    {"unbase64", l_unbase64},
    {"base64url", l_base64url},
    {"unbase64url", l_unbase64url},
    {"random", l_random},
    {NULL, NULL},
};

int luaopen_core_hash(lua_State *L)
{
    bind_closable(L, HASHER_CLASS, methods, l_close);
    luaL_newlib(L, functions);
    return 1;
}
