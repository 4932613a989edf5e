/* Bounded growable bytes. */
#include "buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *buf_room(struct buf *b, size_t len)
{
    size_t need, cap;
    char *data;

    if (len > SIZE_MAX / 2 - b->len - 1 || (b->max && b->len + len > b->max))
        return NULL;
    need = b->len + len + 1;
    if (need <= b->cap)
        return b->data + b->len;
    cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap *= 2;
    data = realloc(b->data, cap);
    if (!data)
        return NULL;
    b->data = data;
    b->cap = cap;
    return b->data + b->len;
}

void buf_grew(struct buf *b, size_t len)
{
    b->len += len;
    b->data[b->len] = '\0';
}

bool buf_add(struct buf *b, const void *data, size_t len)
{
    char *room = buf_room(b, len);

    if (!room)
        return false;
    if (len)
        memcpy(room, data, len);
    buf_grew(b, len);
    return true;
}

bool buf_text(struct buf *b, const char *text)
{
    return buf_add(b, text, strlen(text));
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args, again;
    char *room;
    int len;

    va_start(args, fmt);
    va_copy(again, args);
    len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    room = len < 0 ? NULL : buf_room(b, (size_t)len);
    if (room) {
        vsnprintf(room, (size_t)len + 1, fmt, again);
        buf_grew(b, (size_t)len);
    }
    va_end(again);
    return room != NULL;
}

void buf_skip(struct buf *b, size_t len)
{
    if (len >= b->len) {
        b->len = 0;
    } else {
        memmove(b->data, b->data + len, b->len - len);
        b->len -= len;
    }
    if (b->data)
        b->data[b->len] = '\0';
}

void buf_free(struct buf *b)
{
    free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}
