/* body.h: a request body: in memory up to a bound, beyond it in an unlinked
 * temporary file (0600, O_TMPFILE where the file system has it). Knows no socket. */
#ifndef MYSERVER_BODY_H
#define MYSERVER_BODY_H

#include "base.h"
#include "buf.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

enum body_result { BODY_OK, BODY_FAILED };

/* What the requests of a process have together that have not come whole, or are not answered. */
struct body_budget {
    _Atomic unsigned files;      /* open, spare ones included */
    _Atomic size_t memory_bytes; /* allocated, beyond the first few KiB of each buffer */
    size_t memory_max_bytes;     /* beyond it, bodies above 64 KiB go to files; beyond twice as
                                  * much those above 4 KiB do too, and nothing grows */
};

struct body {
    struct buf memory;          /* the whole body while fd is -1 */
    int fd;                     /* temporary file that holds the whole body, or -1; owned */
    int spare_fd;               /* file of an earlier body, for the next; or -1; owned */
    uint64_t length;            /* bytes appended so far */
    int error;                  /* errno of the failure after BODY_FAILED */
    size_t memory_bytes;        /* bound of `memory` */
    const char *tmp_dir;        /* borrowed */
    struct body_budget *budget; /* borrowed; NULL: none */
    unsigned noted_files;       /* this one's part of the budget */
    size_t noted_bytes;
};

/* A buffer of a request now has `bytes` that count. `noted`, zero at first, remembers what it had:
 * one that stays as it is costs nothing. Any thread. No `budget`: nothing is counted. */
void body_budget_note(struct body_budget *budget, size_t *noted, size_t bytes);
/* With `more` bytes it would be beyond what is said there, so many times. */
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
/* Closes the file that was kept. */
void body_shed(struct body *b);
void body_fini(struct body *b);
/* BODY_FAILED: the file could not be made or written (disk full): `error` says why,
 * the body is lost, the request must be answered with 500 by the caller. */
MUST_CHECK enum body_result body_append(struct body *b, const char *data, size_t len);
/* The same for `len` bytes that a pipe holds, of a body that is in its file: not copied on the way.
 * After BODY_FAILED the pipe may still hold some. */
MUST_CHECK enum body_result body_splice(struct body *b, int pipe_fd, size_t len);
/* Copies up to `len` bytes from `offset` into `out`. Returns the count, 0 at the
 * end, -1 with `errno` set when the file cannot be read. Thread-safe (pread). */
MUST_CHECK ssize_t body_read(const struct body *b, uint64_t offset, char *out, size_t len);

#endif
