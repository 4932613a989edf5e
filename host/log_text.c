/* Escaping for log lines; see the header. The set of hidden characters follows Unicode's own: the control,
 * format, line and paragraph separator categories, and the tag characters. */
#include "log_text.h"

#include <stdio.h>
#include <string.h>

size_t log_utf8(const char *text, size_t left, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char c = (unsigned char)text[0];
    size_t n = c < 0x80                ? 1
               : c >= 0xc2 && c < 0xe0 ? 2
               : c >= 0xe0 && c < 0xf0 ? 3
               : c >= 0xf0 && c < 0xf5 ? 4
                                       : 0;

    if (n == 0 || n > left)
        return 0;
    *code = n == 1 ? c : c & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if (((unsigned char)text[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | ((unsigned char)text[i] & 0x3fu);
    }
    if (*code < least[n] || *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000))
        return 0;
    return n;
}

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

static bool json_escape(struct buf *out, uint32_t code)
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
    case '\\':
        return buf_text(out, "\\\\");
    }
    if (code < 0x10000)
        return buf_printf(out, "\\u%04x", code);
    code -= 0x10000;
    return buf_printf(out, "\\u%04x\\u%04x", 0xd800 + (code >> 10), 0xdc00 + (code & 0x3ff));
}

bool log_json(struct buf *out, const char *text, size_t len)
{
    size_t from = 0, n;
    bool ok = buf_add(out, "\"", 1);

    for (size_t at = 0; ok && at < len; at += n) {
        uint32_t code;

        n = log_utf8(text + at, len - at, &code);
        if (n && code != '"' && code != '\\' && !log_hidden(code))
            continue;
        if (!n)
            code = 0xfffd;
        ok = at == from || buf_add(out, text + from, at - from);
        ok = ok && json_escape(out, code);
        n = n ? n : 1;
        from = at + n;
    }
    if (len > from)
        ok = ok && buf_add(out, text + from, len - from);
    return ok && buf_add(out, "\"", 1);
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

        n = log_utf8(text + at, len - at, &code);
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
            return log_utf8(text + max - back, len - max + back, &code) ? max - back : max;
    return max;
}
