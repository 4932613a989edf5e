/* Base64, hexadecimal and JSON strings: whatever decodes encodes back to the same text, and all bytes come
 * back. */
#include "fuzz.h"
#include "codec.h"
#include "json_text.h"

static void check_base64(const char *text, size_t len, enum base64_kind kind)
{
    char *bytes = malloc(base64_decoded(len) + 1), *again = malloc(base64_encoded(len) + 1);
    size_t n, m;

    HOLDS(bytes && again);
    if (base64_decode(bytes, &n, text, len, kind)) {
        HOLDS(n <= base64_decoded(len));
        m = base64_encode(again, bytes, n, kind);
        HOLDS(m == len && memcmp(again, text, len) == 0);
    }
    m = base64_encode(again, text, len, kind);
    HOLDS(m <= base64_encoded(len));
    free(bytes);
    bytes = malloc(base64_decoded(m) + 1);
    HOLDS(bytes && base64_decode(bytes, &n, again, m, kind));
    HOLDS(n == len && memcmp(bytes, text, len) == 0);
    free(bytes);
    free(again);
}

/* A quoted text is UTF-8, and undoing its escapes gives the text again when that was UTF-8, too. */
static void check_json(const char *text, size_t len)
{
    struct buf quoted = {0}, again = {0};

    HOLDS(json_quote(&quoted, text, len, NULL));
    HOLDS(utf8_prefix(quoted.data, quoted.len) == quoted.len);
    for (size_t at = 1, used; at < quoted.len - 1; at += used) {
        char bytes[4] = {quoted.data[at]};
        size_t n = used = 1;

        if (*bytes == '\\')
            n = json_unescape(bytes, quoted.data + at, quoted.len - 1 - at, &used);
        HOLDS(n > 0 && buf_add(&again, bytes, n));
    }
    if (utf8_prefix(text, len) == len)
        HOLDS(again.len == len && (!len || memcmp(again.data, text, len) == 0));
    buf_free(&quoted);
    buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(2 * size + 1), *bytes = malloc(size + 1);

    HOLDS(text && bytes);
    check_base64(size ? (const char *)data : "", size, BASE64);
    check_base64(size ? (const char *)data : "", size, BASE64_URL);
    check_json(size ? (const char *)data : "", size);
    hex_decode(bytes, (const char *)data, size);
    hex_encode(text, data, size);
    HOLDS(hex_decode(bytes, text, 2 * size) && (!size || memcmp(bytes, data, size) == 0));
    free(text);
    free(bytes);
    return 0;
}
