/* body.h: a request body: in memory up to a bound, above it in an unlinked temporary file (0600,
 * O_TMPFILE where the file system has it). Knows no socket. */
#ifndef MYSERVER_BODY_H
#define MYSERVER_BODY_H

#include "base/base.h"
#include "base/buf.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

enum body_result { BODY_OK, BODY_FAILED };

/* Files and memory that all requests of a process use together. */
struct body_budget {
    _Atomic unsigned files;      /* open, including spare ones */
    _Atomic size_t memory_bytes; /* allocated, without the first few KiB of each buffer */
    /* above it, bodies larger than 64 KiB go to files; above twice this, those larger than 4 KiB
     * too, and no buffer grows */
    size_t memory_max_bytes;
};

struct body {
    struct buf memory;          /* the whole body while fd is -1 */
    int fd;                     /* temporary file that holds the whole body, or -1; owned */
    int spare_fd;               /* file of an earlier body, kept for the next one; or -1; owned */
    uint64_t length;            /* bytes appended so far */
    int error;                  /* after BODY_FAILED: its errno */
    size_t memory_bytes;        /* upper bound of `memory` */
    const char *tmp_dir;        /* borrowed */
    struct body_budget *budget; /* borrowed; NULL: none */
    unsigned noted_files;       /* what this body has added to the budget */
    size_t noted_bytes;
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
/* Forgets the content. Keeps at most 64 KiB of memory, and a file of up to 16 MiB for the next
 * large body, until body_shed. */
void body_reset(struct body *b);
/* Closes the file that is kept for the next body. */
void body_shed(struct body *b);
void body_fini(struct body *b);
/* Appends. BODY_FAILED: the file could not be made or written (disk full): `error` says why, the
 * body is lost, and the caller must answer the request with 500. */
MUST_CHECK enum body_result body_append(struct body *b, const char *data, size_t len);
/* Appends `len` bytes from a pipe to a body that is in its file, without copying them through this
 * process. After BODY_FAILED the pipe may still hold some of them. */
MUST_CHECK enum body_result body_splice(struct body *b, int pipe_fd, size_t len);
/* Copies up to `len` bytes from `offset` into `out`. Returns the count, 0 at the
 * end, -1 with `errno` set when the file cannot be read. Thread-safe (pread). */
MUST_CHECK ssize_t body_read(const struct body *b, uint64_t offset, char *out, size_t len);

#endif
