/* gzip on zlib: one member after another until the text ends; what follows a whole member and is none is an
 * error. */
#include "gzip.h"

#include <limits.h>
#include <string.h>

#define ZLIB_CONST /* its input is not changed */
#include <zlib.h>

enum { PIECE = 64 * 1024, GZIP_ONLY = MAX_WBITS + 16 };

/* One call of zlib may take and give less than what there is: its counters are unsigned ints. */
static uInt some(size_t left)
{
    return left < INT_MAX ? (uInt)left : INT_MAX;
}

/* Room for the next piece, never for more than one byte over the limit: enough to see that it is passed. */
static bool give_room(z_stream *z, struct buf *out, size_t left, struct err *e)
{
    size_t want = left < PIECE ? left + 1 : PIECE;
    char *room = buf_room(out, want);

    if (!room) {
        err_set(e, ERR_MEMORY, "not enough memory");
        return false;
    }
    z->next_out = (Bytef *)room;
    z->avail_out = (uInt)want;
    return true;
}

/* The members one after the other; what follows them must be nothing. */
static bool inflate_all(z_stream *z, struct buf *out, size_t len, size_t max, struct err *e)
{
    size_t given = 0, before = out->len;
    int status = Z_OK;

    for (;;) {
        const char *room;

        if (!give_room(z, out, max - (out->len - before), e))
            return false;
        room = (const char *)z->next_out;
        z->avail_in = some(len - given);
        given += z->avail_in;
        status = inflate(z, Z_NO_FLUSH);
        given -= z->avail_in;
        buf_grew(out, (size_t)((const char *)z->next_out - room));
        if (out->len - before > max) {
            err_set(e, ERR_TOO_LARGE, "it expands to more than %zu bytes", max);
            return false;
        }
        if (status == Z_STREAM_END) {
            if (given == len)
                return true;
            if (inflateReset(z) != Z_OK)
                break;
        } else if (status == Z_MEM_ERROR) {
            err_set(e, ERR_MEMORY, "not enough memory");
            return false;
        } else if (status != Z_OK) {
            break;
        }
    }
    if (status == Z_BUF_ERROR)
        err_set(e, ERR_INVALID, "the gzip text ends too early");
    else
        err_set(e, ERR_INVALID, "this is no gzip text, or it is damaged%s%s", z->msg ? ": " : "",
                z->msg ? z->msg : "");
    return false;
}

bool gzip_decode(struct buf *out, const void *data, size_t len, size_t max, struct err *e)
{
    z_stream z;
    bool ok;

    memset(&z, 0, sizeof z);
    if (inflateInit2(&z, GZIP_ONLY) != Z_OK) {
        err_set(e, ERR_MEMORY, "not enough memory");
        return false;
    }
    z.next_in = (const Bytef *)data;
    ok = inflate_all(&z, out, len, max, e);
    inflateEnd(&z);
    return ok;
}

bool gzip_encode(struct buf *out, const void *data, size_t len, struct err *e)
{
    z_stream z;
    size_t given = 0;
    int status = Z_OK;

    memset(&z, 0, sizeof z);
    if (deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, GZIP_ONLY, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        err_set(e, ERR_MEMORY, "not enough memory");
        return false;
    }
    z.next_in = (const Bytef *)data;
    while (status == Z_OK && give_room(&z, out, PIECE, e)) {
        const char *room = (const char *)z.next_out;

        z.avail_in = some(len - given);
        given += z.avail_in;
        status = deflate(&z, given == len ? Z_FINISH : Z_NO_FLUSH);
        given -= z.avail_in;
        buf_grew(out, (size_t)((const char *)z.next_out - room));
    }
    deflateEnd(&z);
    if (status == Z_STREAM_END)
        return true;
    if (status != Z_OK)
        err_set(e, ERR_INTERNAL, "zlib failed with %d", status);
    return false;
}
