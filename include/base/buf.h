/* buf.h: a growable byte buffer.
 *
 *     data            data+len        data+cap
 *      |--- content ---|--- room ------|
 *
 * Owned by value: embed it, buf_fini() it. A zeroed struct is an empty buffer. */
#ifndef MYSERVER_BASE_BUF_H
#define MYSERVER_BASE_BUF_H

#include "base/base.h"

#include <string.h>

struct buf {
    char *data; /* NULL while cap is 0 */
    size_t len;
    size_t cap;
};

/* Makes room for `extra` bytes behind the content. May move `data`. */
void buf_reserve(struct buf *b, size_t extra);
void buf_append(struct buf *b, const void *data, size_t len);
void buf_append_str(struct buf *b, const char *s);
PRINTF_LIKE(2, 3) void buf_printf(struct buf *b, const char *format, ...);
/* Drops the first `count` bytes (at most len), moving the rest to the front. */
void buf_consume(struct buf *b, size_t count);
/* Forgets the content, keeps the memory. */
static inline void buf_reset(struct buf *b)
{
    b->len = 0;
}
/* Frees the memory; the buffer is empty and usable afterwards. */
void buf_fini(struct buf *b);

#endif
