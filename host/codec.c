/* Hexadecimal, UTF-8 and base64. */
#include "codec.h"

static const char SYMBOLS[2][65] = {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
                                    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"};

void hex_encode(char *out, const void *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *in = data;

    for (size_t i = 0; i < len; i++) {
        *out++ = digits[in[i] >> 4];
        *out++ = digits[in[i] & 15];
    }
}

int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool hex_decode(void *out, const char *text, size_t len)
{
    uint8_t *to = out;

    if (len % 2)
        return false;
    for (size_t i = 0; i < len; i += 2) {
        int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);

        if (high < 0 || low < 0)
            return false;
        *to++ = (uint8_t)(high << 4 | low);
    }
    return true;
}

size_t utf8_decode(const char *text, size_t left, uint32_t *code)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t n = utf8_length(text, left);

    *code = n > 1 ? s[0] & (0x7Fu >> n) : s[0];
    for (size_t i = 1; i < n; i++)
        *code = *code << 6 | (s[i] & 0x3Fu);
    return n;
}

size_t utf8_prefix(const char *text, size_t len)
{
    size_t at = 0, n = 1;

    for (; at < len && n; at += n)
        n = utf8_length(text + at, len - at);
    return at;
}

size_t utf8_encode(char out[4], uint32_t code)
{
    size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};

    for (size_t i = len; --i > 0; code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)(lead[len] | code);
    return len;
}

size_t base64_encoded(size_t len)
{
    return (len + 2) / 3 * 4;
}

size_t base64_decoded(size_t len)
{
    return (len + 3) / 4 * 3;
}

size_t base64_encode(char *out, const void *data, size_t len, enum base64_kind kind)
{
    const char *symbols = SYMBOLS[kind];
    const uint8_t *in = data;
    char *to = out;

    for (; len >= 3; len -= 3, in += 3) {
        *to++ = symbols[in[0] >> 2];
        *to++ = symbols[(in[0] & 3) << 4 | in[1] >> 4];
        *to++ = symbols[(in[1] & 15) << 2 | in[2] >> 6];
        *to++ = symbols[in[2] & 63];
    }
    if (len > 0) {
        int second = len > 1 ? in[1] : 0;

        *to++ = symbols[in[0] >> 2];
        *to++ = symbols[(in[0] & 3) << 4 | second >> 4];
        if (len > 1)
            *to++ = symbols[(second & 15) << 2];
        else if (kind == BASE64)
            *to++ = '=';
        if (kind == BASE64)
            *to++ = '=';
    }
    return (size_t)(to - out);
}

static int base64_digit(char c, enum base64_kind kind)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == SYMBOLS[kind][62])
        return 62;
    return c == SYMBOLS[kind][63] ? 63 : -1;
}

bool base64_decode(void *out, size_t *out_len, const char *text, size_t len, enum base64_kind kind)
{
    uint8_t *to = out;
    uint32_t bits = 0;
    int have = 0;

    if (kind == BASE64) {
        if (len % 4)
            return false;
        for (int padding = 0; padding < 2 && len > 0 && text[len - 1] == '='; padding++)
            len--;
    }
    if (len % 4 == 1)
        return false;
    for (size_t i = 0; i < len; i++) {
        int digit = base64_digit(text[i], kind);

        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        have += 6;
        if (have >= 8) {
            have -= 8;
            *to++ = (uint8_t)(bits >> have);
            bits &= (1U << have) - 1;
        }
    }
    *out_len = (size_t)(to - (uint8_t *)out);
    return bits == 0;
}
