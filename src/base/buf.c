/* buf.c: a growable byte buffer.
 *
 * Owns the memory of a struct buf. Never shrinks it by itself and never adds a NUL to the content:
 * an owner that has a large buffer for long frees it with buf_fini(). */
#include "base/buf.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_SMALLEST 256

void buf_reserve(struct buf *b, size_t extra)
{
    if (LIKELY(b->cap - b->len >= extra))
        return;
    size_t needed;
    bool overflow = __builtin_add_overflow(b->len, extra, &needed);
    assert(!overflow && needed <= PTRDIFF_MAX); /* no allocation may be larger */
    size_t cap = b->cap ? b->cap : BUF_SMALLEST;
    while (cap < needed && cap <= PTRDIFF_MAX / 2)
        cap *= 2;
    b->cap = cap < needed ? needed : cap;
    b->data = xrealloc(b->data, b->cap);
}

void buf_append(struct buf *b, const void *data, size_t len)
{
    if (!len)
        return;
    buf_reserve(b, len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

void buf_append_str(struct buf *b, const char *s)
{
    buf_append(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    buf_reserve(b, 1);
    size_t room = b->cap - b->len;
    int length = vsnprintf(b->data + b->len, room, format, args);
    assert(length >= 0);
    if ((size_t)length >= room) {
        /* vsnprintf needs room for its NUL too, which does not become content. */
        buf_reserve(b, (size_t)length + 1);
        length = vsnprintf(b->data + b->len, (size_t)length + 1, format, again);
    }
    b->len += (size_t)length;
    va_end(again);
    va_end(args);
}

void buf_consume(struct buf *b, size_t count)
{
    assert(count <= b->len);
    b->len -= count;
    if (b->len && count)
        memmove(b->data, b->data + count, b->len);
}

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}
