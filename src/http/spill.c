/* spill.c: bytes of an answer that its client does not take yet, in a file without a name.
 *
 * Owns the descriptor, and its part of the budget. Waits for nothing but the disk. What it cannot
 * take, its caller keeps: no byte is lost because a disk is full. */
#include "http/spill.h"
#include "base/log.h"
#include "base/unlinked.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static bool claim(struct spill *s, size_t bytes)
{
    struct spill_budget *budget = s->budget;
    if (s->end + bytes > budget->answer_max_bytes)
        return false;
    if (atomic_fetch_add(&budget->used_bytes, bytes) + bytes <= budget->max_bytes)
        return true;
    atomic_fetch_sub(&budget->used_bytes, bytes);
    return false;
}

static void release(struct spill *s, uint64_t bytes)
{
    atomic_fetch_sub(&s->budget->used_bytes, bytes);
}

static void say_failure(struct spill_budget *budget, int error)
{
    if (!atomic_exchange(&budget->said, true))
        log_warning("answers to slow clients cannot be kept in a file: %s in %s; until they can, "
                    "threads wait for these clients",
                    strerror(error), budget->tmp_dir ? budget->tmp_dir : "memory");
}

/* A file takes less than it is given only when the disk, or the limit of its size, is full. */
static bool write_pieces(const struct spill *s, const struct iovec *pieces, unsigned count,
                         size_t bytes)
{
    ssize_t written;
    do
        written = pwritev(s->fd, pieces, (int)count, (off_t)s->end);
    while (written < 0 && errno == EINTR);
    if (written >= 0 && (size_t)written < bytes)
        errno = ENOSPC;
    return written >= 0 && (size_t)written == bytes;
}

bool spill_append(struct spill *s, const struct iovec *pieces, unsigned count)
{
    size_t bytes = pieces_bytes(pieces, count);
    if (!claim(s, bytes))
        return false;
    if (s->fd < 0 && (s->fd = unlinked_open(s->budget->tmp_dir)) >= 0)
        atomic_fetch_add(&s->budget->files, 1);
    if (s->fd >= 0 && write_pieces(s, pieces, count, bytes)) {
        s->end += bytes;
        return true;
    }
    say_failure(s->budget, errno);
    release(s, bytes);
    if (s->end == 0)
        spill_close(s); /* with what was written of the pieces */
    return false;
}

void spill_close(struct spill *s)
{
    if (s->fd < 0)
        return;
    close(s->fd);
    atomic_fetch_sub(&s->budget->files, 1);
    release(s, s->end);
    s->fd = -1;
    s->end = 0;
}
