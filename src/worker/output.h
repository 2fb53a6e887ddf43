/* output.h: bytes on their way to a client: what a socket did not take at once. No loop, no
 * Python; never blocks. */
#ifndef MYSERVER_WORKER_OUTPUT_H
#define MYSERVER_WORKER_OUTPUT_H

#include "base/base.h"
#include "base/buf.h"
#include "http/spill.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

enum output_result {
    OUTPUT_DONE,    /* everything is with the kernel */
    OUTPUT_BLOCKED, /* the rest is kept here: flush when the socket is writable */
    OUTPUT_GONE,    /* the client has gone, or the file failed; nothing is kept */
};

/* What is not sent yet goes out in this order: `bytes`, file, tail. The file is the application's,
 * or `spill` with what the client was too slow for. Empty after output_init. */
struct output {
    struct buf bytes;  /* copied */
    size_t bytes_sent; /* of `bytes` */
    const char *tail;  /* borrowed: the caller keeps it alive until the output is empty */
    size_t tail_len;
    size_t borrowed_bytes; /* size of the whole object that is kept alive for the tail */
    int file_fd;           /* owned, or that of `spill`; -1: none */
    uint64_t file_offset, file_bytes;
    struct spill spill;
    uint64_t total_bytes; /* given to the kernel since output_reset */
    int file_error;       /* after OUTPUT_GONE: errno of the file; ENODATA: it became shorter */
    _Atomic unsigned *descriptors; /* borrowed: of the files in all outputs */
};

#define OUTPUT_MAX_PIECES 4

void output_init(struct output *o, _Atomic unsigned *descriptors, struct spill_budget *spills);
/* Forgets what is left and closes the file; keeps at most 16 KiB of memory. */
void output_reset(struct output *o);
void output_fini(struct output *o);
static inline bool output_is_empty(const struct output *o)
{
    return o->bytes.len == o->bytes_sent && o->tail_len == 0 && o->file_fd < 0;
}
/* Whether bytes wait in the file of `spill`. */
static inline bool output_is_spilled(const struct output *o)
{
    return o->spill.fd >= 0;
}
/* Bytes in memory that are not sent yet. */
static inline size_t output_pending(const struct output *o)
{
    return o->bytes.len - o->bytes_sent + o->tail_len;
}
/* Bytes of memory that are held for what is pending. */
static inline size_t output_memory(const struct output *o)
{
    return o->bytes.cap + o->borrowed_bytes;
}
/* Sends what is kept here, then `pieces`, until the socket takes no more, and advances `*pieces`
 * and `*count` past what was sent. After OUTPUT_BLOCKED the caller gives the rest to output_copy or
 * output_borrow, or tries again later. */
MUST_CHECK enum output_result output_try(struct output *o, int fd, struct iovec **pieces,
                                         unsigned *count);
/* Not while bytes are spilled: these come first. */
void output_copy(struct output *o, const struct iovec *pieces, unsigned count);
/* Adds `pieces` behind everything else that is kept here, in the file of `spill`. False: it does
 * not take them. */
MUST_CHECK bool output_spill(struct output *o, const struct iovec *pieces, unsigned count);
/* Keeps a pointer to `piece`, the end of an object of `whole_bytes`. Nothing may be added until it
 * is sent. */
void output_borrow(struct output *o, struct iovec piece, size_t whole_bytes);
/* Sends `piece`; what the socket does not take is copied. */
MUST_CHECK enum output_result output_send(struct output *o, int fd, struct iovec piece);
/* Sends `head`, then `bytes` bytes of `file_fd` from `offset`. Takes `file_fd`. Nothing may be
 * spilled. */
MUST_CHECK enum output_result output_send_file(struct output *o, int fd, struct iovec head,
                                               int file_fd, uint64_t offset, uint64_t bytes);
/* Goes on sending what is kept here. */
MUST_CHECK enum output_result output_flush(struct output *o, int fd);
/* Bytes that the kernel has and the client has not taken yet; 0 where that is not known. */
unsigned output_untaken(int fd);
/* Whether the client has taken what even a slow one takes in `ms`, in which there were `*untaken`
 * bytes at the begin; sets `*untaken` to the current number. Writability of the socket would tell
 * too late: it needs a third of the buffer to be free, which may be a MB. */
MUST_CHECK bool output_is_taken(int fd, unsigned *untaken, uint64_t ms);

/* How a client takes its answer: what it had taken when it last was fast enough, that is above 4 KB
 * a second since the time before. Zeroed: not begun. */
struct output_pace {
    uint64_t since_ms, taken_bytes;
    uint64_t begun_ms; /* the first time */
};
/* Looks at the client; returns for how many ms it has been too slow. */
uint64_t output_pace_note(struct output_pace *pace, const struct output *o, int fd);

#endif
