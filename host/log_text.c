/* Escaping for log lines; see the header. The set of hidden characters follows Unicode's own: the control,
 * format, line and paragraph separator categories, and the tag characters. */
#include "log_text.h"

#include <stdio.h>
#include <string.h>
#include "codec.h"

bool log_hidden(uint32_t code)
{
    static const uint32_t ranges[][2] = {
        {0x00, 0x1f},     {0x7f, 0x9f},     {0xad, 0xad},     {0x600, 0x605},
        {0x61c, 0x61c},   {0x180e, 0x180e}, {0x200b, 0x200f}, {0x2028, 0x202e},
        {0x2060, 0x206f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe0fff},
    };

    if (code >= 0x20 && code < 0x7f)
        return false;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (code >= ranges[i][0] && code <= ranges[i][1])
            return true;
    return false;
}

static bool plain_escape(struct buf *out, uint32_t code)
{
    switch (code) {
    case '\n':
        return buf_text(out, "\\n");
    case '\t':
        return buf_text(out, "\\t");
    case '\r':
        return buf_text(out, "\\r");
    case '"':
        return buf_text(out, "\\\"");
    }
    return buf_printf(out, code < 0x100 ? "\\x%02x" : "\\u%04x", code);
}

static bool wants_quotes(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] == ' ' || text[i] == '"' || text[i] == '=')
            return true;
    return len == 0;
}

bool log_plain(struct buf *out, const char *text, size_t len, bool quote)
{
    size_t from = 0, n;
    bool ok = true;

    quote = quote && wants_quotes(text, len);
    if (quote)
        ok = buf_add(out, "\"", 1);
    for (size_t at = 0; ok && at < len; at += n) {
        uint32_t code;

        n = utf8_decode(text + at, len - at, &code);
        if (n && !log_hidden(code) && !(quote && code == '"'))
            continue;
        if (!n)
            code = (unsigned char)text[at];
        ok = at == from || buf_add(out, text + from, at - from);
        ok = ok && plain_escape(out, code);
        n = n ? n : 1;
        from = at + n;
    }
    if (len > from)
        ok = ok && buf_add(out, text + from, len - from);
    return ok && (!quote || buf_add(out, "\"", 1));
}

size_t log_cut(const char *text, size_t len, size_t max)
{
    uint32_t code;

    if (len <= max)
        return len;
    for (size_t back = 0; back < 4 && back < max; back++)
        if (((unsigned char)text[max - back] & 0xc0) != 0x80)
            return utf8_decode(text + max - back, len - max + back, &code) ? max - back : max;
    return max;
}
