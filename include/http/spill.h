/* spill.h: bytes of an answer that its client does not take yet, in an unlinked file (unlinked.h),
 * first in, first out. Knows no socket, no thread. */
#ifndef MYSERVER_HTTP_SPILL_H
#define MYSERVER_HTTP_SPILL_H

#include "base/base.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

/* What all answers of a process use together. */
struct spill_budget {
    const char *tmp_dir;         /* borrowed; NULL: files are in memory */
    uint64_t answer_max_bytes;   /* on disk for one answer; 0: none */
    uint64_t max_bytes;          /* on disk for all */
    _Atomic uint64_t used_bytes; /* of max_bytes */
    _Atomic unsigned files;      /* that are open */
    _Atomic bool said;           /* that a file could not be made or written is in the log */
};

/* The file of one answer. Bytes are only added, and sent from the front by whoever owns it. No part
 * of it is freed, cut or written again before spill_close: after sendfile(2) the kernel may have
 * the file's own pages on their way to the client. */
struct spill {
    struct spill_budget *budget; /* borrowed */
    int fd;                      /* owned; -1: not open */
    uint64_t end;                /* length of the file */
};

static inline size_t pieces_bytes(const struct iovec *pieces, unsigned count)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes += pieces[i].iov_len;
    return bytes;
}

static inline void spill_init(struct spill *s, struct spill_budget *budget)
{
    *s = (struct spill){.budget = budget, .fd = -1};
}
/* Adds `pieces`, all or nothing. False: a bound is reached, or the file cannot be made or written
 * (disk full, RLIMIT_FSIZE), which is logged once. */
MUST_CHECK bool spill_append(struct spill *s, const struct iovec *pieces, unsigned count);
/* Gives the space back. */
void spill_close(struct spill *s);

#endif
