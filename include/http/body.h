/* body.h: a request body: in memory up to a bound, above it in an unlinked temporary file (0600,
 * O_TMPFILE where the file system has it), which is a memfd where no directory can be written to.
 * What is in memory comes first: a few bytes in a buffer of their own, more in blocks that are used
 * again (blocks.h), which go back as they are read. The end of a body may be left in the kernel's
 * memory, in the receive queue of its socket, where all of it must have arrived. */
#ifndef MYSERVER_HTTP_BODY_H
#define MYSERVER_HTTP_BODY_H

#include "base/base.h"
#include "base/buf.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

enum body_result { BODY_OK, BODY_FAILED };

/* Files and memory that all requests of a process use together. */
struct body_budget {
    _Atomic unsigned files; /* open, including spare ones */
    _Atomic uint64_t memfd_bytes;
    uint64_t memfd_max_bytes;    /* above it a body fails with ENOSPC, as on a full disk */
    _Atomic size_t memory_bytes; /* in use, without the first few KiB of each buffer */
    /* above it, bodies larger than 64 KiB go to files; above twice this, those larger than 4 KiB
     * too, and no buffer grows */
    size_t memory_max_bytes;
};

/* Takes bytes that have arrived at a socket, without waiting, into `out`; NULL: discards them.
 * Returns how many; 0 or -1, with errno: they cannot be read. */
typedef ssize_t body_source(int socket, char *out, size_t len);

struct body {
    struct buf memory;     /* the bytes before kept_end, while they are few */
    char **blocks;         /* the same, when they are more; owned */
    size_t block_count;    /* so many blocks */
    size_t dropped_blocks; /* of these; they were read and are gone */
    uint64_t blocks_from;  /* offset of the first byte in them */
    uint64_t kept_end;     /* how much of the body is in memory */
    int fd;                /* temporary file of what follows, at the same offset; or -1; owned */
    int spare_fd;          /* file of an earlier body, kept for the next one; or -1; owned */
    body_source *source;   /* has the last `rest` bytes; NULL: nobody has */
    int socket;            /* for it */
    uint64_t rest;         /* bytes that are, or are to be, in the kernel's memory */
    uint64_t length;       /* bytes that have come, the rest in the kernel's memory included */
    uint64_t announced;    /* set by the parser: its length when it is whole; 0: not known */
    int error;             /* after BODY_FAILED: its errno */
    size_t memory_bytes;   /* upper bound of what is in memory */
    const char *tmp_dir;   /* borrowed; NULL: its file is a memfd */
    struct body_budget *budget; /* borrowed; NULL: none */
    unsigned noted_files;       /* what this body has added to the budget */
    size_t noted_bytes;
    uint64_t noted_memfd_bytes;
};

/* Sets what one buffer adds to the budget to `bytes`. `*noted`, 0 at first, keeps what it added
 * before; nothing is done if it stays the same. Any thread. `budget` may be NULL. */
void body_budget_note(struct body_budget *budget, size_t *noted, size_t bytes);
/* Whether `more` bytes would bring the budget above `times` times its memory_max_bytes. */
static inline bool body_budget_ends(const struct body_budget *budget, size_t more, unsigned times)
{
    return budget && atomic_load_explicit(&budget->memory_bytes, memory_order_relaxed) + more >
                         times * budget->memory_max_bytes;
}

void body_init(struct body *b, size_t memory_bytes, const char *tmp_dir,
               struct body_budget *budget);
/* Forgets the content. Keeps at most 64 KiB of memory, and a file on disk of up to 16 MiB for the
 * next large body, until body_shed; the blocks go back. */
void body_reset(struct body *b);
/* Closes the file that is kept for the next body. */
void body_shed(struct body *b);
void body_fini(struct body *b);
/* Appends. BODY_FAILED: the file could not be made or written (disk full): `error` says why, the
 * body is lost, and the caller must answer the request with 500. */
MUST_CHECK enum body_result body_append(struct body *b, const char *data, size_t len);
/* Where the next bytes of a body whose length is known may be written to, so that nobody has to
 * copy them; then body_took says how many came. NULL: they have to be appended. */
char *body_room(struct body *b, size_t *room_bytes);
void body_took(struct body *b, size_t len);
/* Whether the next `len` bytes may stay in the kernel until they are all there; if so, they are
 * counted in the budget until body_leave or body_want. */
MUST_CHECK bool body_await(struct body *b, uint64_t len);
/* They are not awaited any more: what has come must be read. */
void body_want(struct body *b);
/* The last `len` bytes have arrived at `socket`, and stay there until they are read: the body is
 * whole. What is not read is discarded by body_reset, until which the socket must be open. */
void body_leave(struct body *b, body_source *source, int socket, uint64_t len);
/* Moves what is in memory to the file, and gives the blocks back. False: the file cannot be made or
 * written, and it stays where it is. Not once bytes were dropped, nor while some are awaited. */
bool body_unload(struct body *b);
/* Appends `len` bytes from a pipe to a body that is in its file, without copying them through this
 * process. After BODY_FAILED the pipe may still hold some of them. */
MUST_CHECK enum body_result body_splice(struct body *b, int pipe_fd, size_t len);
/* Copies up to `len` bytes from `offset` into `out`. Returns the count, 0 at the end, -1 with
 * `errno` set when the file or the socket cannot be read. Of bytes in a socket, none before
 * `offset` can be read again. */
MUST_CHECK ssize_t body_read(struct body *b, uint64_t offset, char *out, size_t len);
/* The bytes that lie in memory from `offset` on, in one piece; those in a socket come into memory
 * first. NULL: they are in the file or cannot be read, or there are none. */
const char *body_piece(struct body *b, uint64_t offset, size_t *len);
/* Nobody reads what is before `offset` any more: gives the blocks of it back. */
void body_drop(struct body *b, uint64_t offset);

#endif
