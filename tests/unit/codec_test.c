/* Hexadecimal and base64, with the vectors of RFC 4648. */
#include "unit.h"
#include "codec.h"

static const char *encoded(const char *text, enum base64_kind kind)
{
    static char out[64];

    out[base64_encode(out, text, strlen(text), kind)] = 0;
    return out;
}

static bool decodes(const char *text, enum base64_kind kind, const char *want)
{
    char out[64];
    size_t len;

    return base64_decode(out, &len, text, strlen(text), kind) && len == strlen(want) &&
           memcmp(out, want, len) == 0;
}

static bool refuses(const char *text, enum base64_kind kind)
{
    char out[64];
    size_t len;

    return !base64_decode(out, &len, text, strlen(text), kind);
}

UNIT(base64_vectors)
{
    static const char *const plain[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
    static const char *const coded[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    static const char *const url[] = {"", "Zg", "Zm8", "Zm9v", "Zm9vYg", "Zm9vYmE", "Zm9vYmFy"};

    for (int i = 0; i < 7; i++) {
        CHECK_STR(encoded(plain[i], BASE64), coded[i]);
        CHECK_STR(encoded(plain[i], BASE64_URL), url[i]);
        CHECK(decodes(coded[i], BASE64, plain[i]));
        CHECK(decodes(url[i], BASE64_URL, plain[i]));
    }
    CHECK_STR(encoded("\xfb\xff\xfe", BASE64), "+//+");
    CHECK_STR(encoded("\xfb\xff\xfe", BASE64_URL), "-__-");
}

UNIT(base64_is_strict)
{
    static const char *const bad[] = {"Z",        "Zg",   "Zg=",     "Zg===", "Zh==",     "Zm9=",    "Zm8==",
                                      "=",        "==",   "====",    "A===",  "Zm9v\n",   " Zm9v",   "Zm 9v",
                                      "Zg==Zg==", "-__-", "Zm9\x80", "Z=g=",  "AAAA====", "AAAAA==="};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (!refuses(bad[i], BASE64))
            CHECK_STR(bad[i], "refused");
    }
    CHECK(refuses("Zg==", BASE64_URL) && refuses("+//+", BASE64_URL) && refuses("Zh", BASE64_URL) &&
          refuses("Z", BASE64_URL));
}

UNIT(all_lengths_come_back)
{
    unsigned char in[70];
    char text[100];
    unsigned char out[100];

    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (unsigned char)(i * 37 + 11);
    for (size_t len = 0; len <= sizeof in; len++) {
        for (int kind = BASE64; kind <= BASE64_URL; kind++) {
            size_t got = 0, n = base64_encode(text, in, len, (enum base64_kind)kind);

            CHECK(n <= base64_encoded(len));
            CHECK(base64_decode(out, &got, text, n, (enum base64_kind)kind));
            CHECK(got == len && got <= base64_decoded(n) && memcmp(in, out, len) == 0);
        }
    }
}

UNIT(hex_both_ways)
{
    char text[6];
    unsigned char out[3];

    hex_encode(text, "\x00\x9f\xff", 3);
    CHECK(memcmp(text, "009fff", 6) == 0);
    CHECK(hex_decode(out, "009FfF", 6) && memcmp(out, "\x00\x9f\xff", 3) == 0);
    CHECK(hex_decode(out, "", 0));
    CHECK(!hex_decode(out, "0", 1) && !hex_decode(out, "0g", 2) && !hex_decode(out, " 0", 2) &&
          !hex_decode(out, "0x", 2));
}

UNIT_MAIN(C(base64_vectors), C(base64_is_strict), C(all_lengths_come_back), C(hex_both_ways))
