/* output.h: bytes on their way to a client: what a socket did not take at once. No loop, no
 * Python; never blocks. */
#ifndef MYSERVER_OUTPUT_H
#define MYSERVER_OUTPUT_H

#include "base.h"
#include "buf.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

enum output_result {
    OUTPUT_DONE,    /* everything is with the kernel */
    OUTPUT_BLOCKED, /* the rest is kept here: flush when the socket is writable */
    OUTPUT_GONE,    /* the client has gone, or the file failed; nothing is kept */
};

/* What is not sent yet goes out in this order. A struct from output_init is empty. */
struct output {
    struct buf bytes;  /* copied */
    size_t bytes_sent; /* of them */
    const char *tail;  /* borrowed: the caller keeps it alive until the output is empty */
    size_t tail_len;
    size_t borrowed_bytes; /* of all that is kept alive for the tail, its sent part included */
    int file_fd;           /* owned; -1: none */
    uint64_t file_offset, file_bytes;
    uint64_t total_bytes;    /* given to the kernel since output_reset */
    int file_error;          /* after OUTPUT_GONE: errno of the file; ENODATA: it became shorter */
    _Atomic unsigned *files; /* borrowed: counts the files that are open in all outputs */
};

#define OUTPUT_MAX_PIECES 4

void output_init(struct output *o, _Atomic unsigned *files);
/* Forgets what is left and closes the file; keeps at most 16 KiB of memory. */
void output_reset(struct output *o);
void output_fini(struct output *o);
static inline bool output_is_empty(const struct output *o)
{
    return o->bytes.len == o->bytes_sent && o->tail_len == 0 && o->file_fd < 0;
}
static inline size_t output_pending(const struct output *o)
{
    return o->bytes.len - o->bytes_sent + o->tail_len;
}
/* What it takes to keep them. */
static inline size_t output_memory(const struct output *o)
{
    return o->bytes.cap + o->borrowed_bytes;
}
/* Sends what the socket takes of what is still here, then of `pieces`, and leaves those that it did
 * not take: after OUTPUT_BLOCKED they are output_copy's, output_borrow's or the caller's next. */
MUST_CHECK enum output_result output_try(struct output *o, int fd, struct iovec **pieces,
                                         unsigned *count);
void output_copy(struct output *o, const struct iovec *pieces, unsigned count);
/* `piece` is the end of `whole_bytes` that lie together. Nothing may be sent after it. */
void output_borrow(struct output *o, struct iovec piece, size_t whole_bytes);
/* Keeps a copy of what was borrowed. */
void output_own(struct output *o);
/* Sends `piece`; what the socket does not take is copied. */
MUST_CHECK enum output_result output_send(struct output *o, int fd, struct iovec piece);
/* Sends `head`, then `bytes` from `offset` of `file_fd`, which it takes. */
MUST_CHECK enum output_result output_send_file(struct output *o, int fd, struct iovec head,
                                               int file_fd, uint64_t offset, uint64_t bytes);
/* Goes on with what is here. */
MUST_CHECK enum output_result output_flush(struct output *o, int fd);
/* Bytes that the kernel has and the client has not taken yet; 0 where that is not known. */
unsigned output_untaken(int fd);
/* Whether it has taken what may be expected in `ms` since there were `*untaken`, which is brought
 * up to date. A socket is writable again only when a third of its buffer is free, which may be a
 * MB: too late to judge a slow client by. */
MUST_CHECK bool output_is_taken(int fd, unsigned *untaken, uint64_t ms);

#endif
