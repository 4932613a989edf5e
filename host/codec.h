/* Bytes as text: hexadecimal, UTF-8 and base64. Knows no Lua, owns no memory. */
#ifndef MOONTIDE_CODEC_H
#define MOONTIDE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes 2 * len lower-case digits, no terminator. */
void hex_encode(char *out, const void *data, size_t len);

/* Reads `len` digits of either case into len / 2 bytes. False: an odd length, or something
 * else than digits. */
bool hex_decode(void *out, const char *text, size_t len);

/* The value of a digit of either case, -1 when it is none. */
int hex_digit(char c);

static inline bool utf8_goes_on(uint8_t byte)
{
    return (byte & 0xC0) == 0x80;
}

/* The bytes of one character, 0 when they are not UTF-8 (a surrogate, an overlong form, beyond U+10FFFF).
 * Inline, since all text that is read goes through it. */
static inline size_t utf8_length(const char *text, size_t left)
{
    const uint8_t *s = (const uint8_t *)text;

    if (s[0] < 0x80)
        return 1;
    if (left < 2 || !utf8_goes_on(s[1]) || s[0] < 0xC2 || s[0] > 0xF4)
        return 0;
    if (s[0] < 0xE0)
        return 2;
    if (left < 3 || !utf8_goes_on(s[2]))
        return 0;
    if (s[0] < 0xF0)
        return (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ? 0 : 3;
    if (left < 4 || !utf8_goes_on(s[3]))
        return 0;
    return (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F) ? 0 : 4;
}

/* Besides, reads it. */
size_t utf8_decode(const char *text, size_t left, uint32_t *code);

/* Length of the longest valid prefix. */
size_t utf8_prefix(const char *text, size_t len);

/* Writes a code point up to U+10FFFF in UTF-8; returns how many bytes, 1 to 4. */
size_t utf8_encode(char out[4], uint32_t code);

enum base64_kind {
    BASE64,    /* + and /, padded */
    BASE64_URL /* - and _, not padded (RFC 7515) */
};

/* Room that the functions need at most. */
size_t base64_encoded(size_t len);
size_t base64_decoded(size_t len);

/* Returns how many characters it wrote; no terminator. */
size_t base64_encode(char *out, const void *data, size_t len, enum base64_kind kind);

/* Strict (RFC 4648): no blanks, exactly the padding of the kind, no bits left over, so that one text decodes
 * to one value and back. Sets *out_len. */
bool base64_decode(void *out, size_t *out_len, const char *text, size_t len, enum base64_kind kind);

#endif
