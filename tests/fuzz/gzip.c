/* gzip: whatever it is, what is read packs again and comes out the same; nothing is longer than was allowed.
 */
#include "fuzz.h"
#include "gzip.h"

/* Charts and records of releases may be 20 times as large; here it shall be easy to pass. */
#define MAX 65536

static void round_trip(const char *data, size_t len)
{
    struct buf packed = {0}, plain = {0};
    struct err e = {0};

    HOLDS(gzip_encode(&packed, data, len, &e));
    HOLDS(gzip_decode(&plain, packed.data, packed.len, len, &e));
    HOLDS(plain.len == len && (!len || memcmp(plain.data, data, len) == 0));
    buf_free(&plain);
    HOLDS(!len || (!gzip_decode(&plain, packed.data, packed.len, len - 1, &e) && e.code == ERR_TOO_LARGE));
    buf_free(&plain);
    buf_free(&packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy of exactly this size: a byte read behind it is noticed. */
    char *text = malloc(size ? size : 1);
    struct buf plain = {0};
    struct err e = {0};

    HOLDS(text);
    if (size)
        memcpy(text, data, size);
    if (gzip_decode(&plain, text, size, MAX, &e)) {
        HOLDS(plain.len <= MAX);
        round_trip(plain.data ? plain.data : "", plain.len);
    } else {
        HOLDS(e.code == ERR_INVALID || e.code == ERR_TOO_LARGE);
        HOLDS(plain.len <= MAX + 1);
        HOLDS(e.message[0]);
    }
    buf_free(&plain);
    round_trip(text, size);
    free(text);
    return 0;
}
