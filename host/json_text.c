/* JSON strings; see the header. */
#include "json_text.h"

#include <string.h>
#include "codec.h"

static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";

static bool put_escape(struct buf *out, uint32_t code)
{
    const char *meaning = code && code < 0x80 ? strchr(meanings, (int)code) : NULL;

    if (meaning)
        return buf_add(out, (char[]){'\\', letters[meaning - meanings]}, 2);
    if (code < 0x10000)
        return buf_printf(out, "\\u%04x", code);
    code -= 0x10000;
    return buf_printf(out, "\\u%04x\\u%04x", 0xD800 + (code >> 10), 0xDC00 + (code & 0x3FF));
}

bool json_quote(struct buf *out, const char *text, size_t len, bool (*hidden)(uint32_t code))
{
    size_t from = 0, n;
    bool ok = buf_add(out, "\"", 1);

    for (size_t at = 0; ok && at < len; at += n) {
        uint32_t code = 0;

        n = utf8_decode(text + at, len - at, &code);
        if (n && code >= 0x20 && code != '"' && code != '\\' && !(hidden && hidden(code)))
            continue;
        ok = at == from || buf_add(out, text + from, at - from);
        if (ok)
            ok = n ? put_escape(out, code) : buf_text(out, hidden ? "\\ufffd" : "\xEF\xBF\xBD");
        n = n ? n : 1;
        from = at + n;
    }
    return ok && (len == from || buf_add(out, text + from, len - from)) && buf_add(out, "\"", 1);
}

/* Reads \uXXXX. False with *used = 0 when the text ends inside of it. */
static bool unit_at(const char *text, size_t left, uint32_t *unit, size_t *used)
{
    *unit = 0;
    for (size_t i = 0; i < 6; i++) {
        int digit = i < left ? i > 1 ? hex_digit(text[i]) : 0 : -1;

        if (digit < 0 || (i < 2 && text[i] != "\\u"[i])) {
            *used = i < left;
            return false;
        }
        *unit = *unit << 4 | (uint32_t)digit;
    }
    *used = 6;
    return true;
}

size_t json_unescape(char out[4], const char *text, size_t left, size_t *used)
{
    uint32_t high, low;
    const char *letter = left > 1 && text[1] ? strchr(letters, text[1]) : NULL;

    if (letter) {
        *out = meanings[letter - letters];
        *used = 2;
        return 1;
    }
    if (!unit_at(text, left, &high, used))
        return 0;
    if (high >> 11 != 0xD800 >> 11)
        return utf8_encode(out, high);
    if (high >= 0xDC00 || !unit_at(text + 6, left - 6, &low, used))
        return 0;
    if (low >> 10 != 0xDC00 >> 10)
        return 0;
    *used = 12;
    return utf8_encode(out, 0x10000 + ((high & 0x3FF) << 10 | (low & 0x3FF)));
}
