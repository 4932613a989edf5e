/* Escapes undone one at a time; see the header. */
#include "secret_unit.h"

#include "codec.h"
#include "json_text.h"

const char secret_escapes[SPELLINGS] = {[PERCENT] = '%', [WEBFORM] = '+', [JSON] = '\\'};

static const struct unit text_ends;

static struct unit single(unsigned byte, size_t used)
{
    return (struct unit){.bytes = {(unsigned char)byte}, .len = 1, .used = used};
}

static struct unit percent_unit(const char *t, size_t left)
{
    int high = left > 1 ? hex_digit(t[1]) : 0, low = left > 2 ? hex_digit(t[2]) : 0;

    if (high < 0 || low < 0)
        return single('%', 1);
    return left > 2 ? single((unsigned)(high << 4 | low), 3) : text_ends;
}

static struct unit json_unit(const char *t, size_t left)
{
    struct unit u;

    u.len = json_unescape((char *)u.bytes, t, left, &u.used);
    return u.len > 0 || u.used == 0 ? u : single('\\', 1);
}

struct unit secret_unit(const char *t, size_t left, enum spelling how)
{
    if (*t == '%' && (how == PERCENT || how == WEBFORM))
        return percent_unit(t, left);
    if (*t == '+' && how == WEBFORM)
        return single(' ', 1);
    if (*t == '\\' && how == JSON)
        return json_unit(t, left);
    return single((unsigned char)*t, 1);
}
