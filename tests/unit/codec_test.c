/* Hexadecimal, UTF-8 and base64, with the vectors of RFC 4648. */
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

/* Against a reference that knows only the definition: decode, then look at the code point. */
static bool valid(const unsigned char *s, size_t len)
{
    static const unsigned long least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    unsigned long point = n == 1 ? s[0] : s[0] & (0xFFu >> (n + 1));

    if (!n || n != len)
        return false;
    for (size_t i = 1; i < n; i++) {
        if (s[i] >> 6 != 2)
            return false;
        point = point << 6 | (s[i] & 0x3F);
    }
    return point >= least[n] && point <= 0x10FFFF && (point < 0xD800 || point > 0xDFFF);
}

static size_t valid_prefix(const unsigned char *s, size_t len)
{
    size_t i = 0, n = 1;

    while (i < len && n) {
        for (n = 4; n && (n > len - i || !valid(s + i, n)); n--)
            ;
        i += n;
    }
    return i;
}

UNIT(knows_utf8)
{
    static const unsigned char tails[11] = {'a', 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC3, 0xFF};
    size_t wrong = 0;

    for (unsigned i = 0; i < 256 * 256; i++)
        for (unsigned j = 0; j < 11 * 11; j++) {
            unsigned char s[] = {(unsigned char)(i >> 8), (unsigned char)i, tails[j / 11], tails[j % 11]};

            wrong += utf8_prefix((char *)s, 4) != valid_prefix(s, 4);
        }
    CHECK_INT(wrong, 0);
    CHECK_INT(utf8_prefix("", 0), 0);
    CHECK_INT(utf8_prefix("ab\xFFz", 4), 2);
    CHECK_INT(utf8_prefix("\xF0\x9F\x98\x80!", 5), 5);
    CHECK_INT(utf8_prefix("a\xF0\x9F\x98", 4), 1);
}

UNIT(utf8_both_ways)
{
    char text[4];
    uint32_t code = 0;

    for (uint32_t point = 0; point <= 0x10FFFF; point++) {
        if (point >= 0xD800 && point < 0xE000)
            continue;
        if (utf8_decode(text, utf8_encode(text, point), &code) == 0 || code != point)
            CHECK_INT(code, point);
    }
}

UNIT_MAIN(C(base64_vectors), C(base64_is_strict), C(all_lengths_come_back), C(hex_both_ways), C(knows_utf8),
          C(utf8_both_ways))
