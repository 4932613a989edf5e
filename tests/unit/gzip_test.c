/* gzip in and out: the same bytes each time, limits, and texts that are cut or foreign. */
#include "unit.h"
#include "gzip.h"

static bool same(const struct buf *b, const void *data, size_t len)
{
    return b->len == len && (len == 0 || memcmp(b->data, data, len) == 0);
}

UNIT(round_trips)
{
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 300000};
    static char text[300000];

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)((i * i) >> 7);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct buf packed = {0}, again = {0}, plain = {0};
        struct err e = {0};

        CHECK(gzip_encode(&packed, text, sizes[i], &e));
        CHECK(gzip_encode(&again, text, sizes[i], &e));
        CHECK(same(&packed, again.data, again.len));
        CHECK(gzip_decode(&plain, packed.data, packed.len, sizes[i], &e));
        CHECK(same(&plain, text, sizes[i]));
        buf_free(&packed);
        buf_free(&again);
        buf_free(&plain);
    }
}

UNIT(limits_hold)
{
    static char zeros[200000];
    struct buf packed = {0}, plain = {0};
    struct err e = {0};

    CHECK(gzip_encode(&packed, zeros, sizeof zeros, &e));
    CHECK(packed.len < 1000);
    CHECK(!gzip_decode(&plain, packed.data, packed.len, sizeof zeros - 1, &e));
    CHECK_INT(e.code, ERR_TOO_LARGE);
    CHECK(plain.len <= sizeof zeros);
    buf_free(&plain);
    CHECK(!gzip_decode(&plain, packed.data, packed.len, 0, &e));
    CHECK_INT(e.code, ERR_TOO_LARGE);
    buf_free(&plain);
    CHECK(gzip_decode(&plain, packed.data, packed.len, sizeof zeros, &e));
    buf_free(&plain);
    buf_free(&packed);
}

UNIT(members_follow_each_other)
{
    struct buf packed = {0}, plain = {0};
    struct err e = {0};

    CHECK(gzip_encode(&packed, "one ", 4, &e));
    CHECK(gzip_encode(&packed, "two", 3, &e));
    CHECK(gzip_decode(&plain, packed.data, packed.len, 100, &e));
    CHECK(same(&plain, "one two", 7));
    buf_free(&plain);
    CHECK(!gzip_decode(&plain, packed.data, packed.len, 6, &e));
    CHECK_INT(e.code, ERR_TOO_LARGE);
    buf_free(&plain);
    buf_free(&packed);
}

UNIT(what_is_cut_or_foreign_is_refused)
{
    struct buf packed = {0}, plain = {0};
    struct err e = {0};

    CHECK(gzip_encode(&packed, "some text that is long enough to be cut", 39, &e));
    for (size_t len = 0; len < packed.len; len++) {
        struct err cut = {0};

        CHECK(!gzip_decode(&plain, packed.data, len, 1000, &cut));
        CHECK_INT(cut.code, ERR_INVALID);
        CHECK(strstr(cut.message, "too early"));
        buf_free(&plain);
    }
    packed.data[packed.len - 5] ^= 1; /* the checksum */
    CHECK(!gzip_decode(&plain, packed.data, packed.len, 1000, &e));
    CHECK_INT(e.code, ERR_INVALID);
    CHECK(strstr(e.message, "damaged") && !strstr(e.message, "too early"));
    buf_free(&plain);
    packed.data[packed.len - 5] ^= 1;
    CHECK(buf_add(&packed, "junk behind it", 14));
    CHECK(!gzip_decode(&plain, packed.data, packed.len, 1000, &e));
    CHECK_INT(e.code, ERR_INVALID);
    buf_free(&plain);
    CHECK(!gzip_decode(&plain, "no gzip at all", 14, 1000, &e));
    CHECK_INT(e.code, ERR_INVALID);
    buf_free(&plain);
    buf_free(&packed);
}

UNIT_MAIN(C(round_trips), C(limits_hold), C(members_follow_each_other), C(what_is_cut_or_foreign_is_refused))
