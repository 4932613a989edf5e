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

/* Reads one character; returns its bytes, 0 when they are not UTF-8 (a surrogate, an overlong form, beyond
 * U+10FFFF). */
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
