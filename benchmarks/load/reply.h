/* reply.h: where one HTTP response ends, from bytes as they come. Knows no socket. */
#ifndef BENCH_REPLY_H
#define BENCH_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum reply_result { REPLY_MORE, REPLY_WHOLE, REPLY_BAD };

enum reply_part {
    REPLY_HEAD,
    REPLY_LENGTH,
    REPLY_CHUNK_SIZE,
    REPLY_CHUNK,
    REPLY_TRAILER,
    REPLY_EOF,
};

struct reply {
    enum reply_part part;
    unsigned status;
    bool close;          /* the server will not answer on this connection again */
    uint64_t left_bytes; /* of the body or of the chunk */
    uint64_t body_bytes; /* seen so far */
    size_t line_len;     /* of `line`, which holds the head, or a chunk's size */
    char line[8192];
};

void reply_reset(struct reply *r);
/* Takes all of `data`; a byte behind the end of the response is REPLY_BAD, for we never pipeline.
 */
enum reply_result reply_feed(struct reply *r, const char *data, size_t len);
/* The server closed: was that the end of the body? */
bool reply_ends_with_eof(const struct reply *r);

#endif
