/* body.c: a request body, in memory up to a bound and above it in a file without a name.
 *
 * Owns the memory and the descriptor. The file is never visible to others: it has no name from the
 * start, or loses it before the first byte is written, so nothing is left on disk however the
 * process ends. Waits for nothing but the disk, knows no socket. */
#include "http/body.h"
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEPT_MEMORY_BYTES 65536
/* A body up to this size, such as a short form, is kept in memory whatever the budget says, and is
 * not counted. */
#define FREE_MEMORY_BYTES 4096
/* A file up to this size is kept for the next body: writing over existing pages costs a third of
 * making and dropping them (10 MB: 2.7 ms against 7.7 on ext4). */
#define KEPT_FILE_BYTES   (16 * 1024 * 1024)

void body_init(struct body *b, size_t memory_bytes, const char *tmp_dir, struct body_budget *budget)
{
    *b = (struct body){.fd = -1,
                       .spare_fd = -1,
                       .memory_bytes = memory_bytes,
                       .tmp_dir = tmp_dir,
                       .budget = budget};
}

/* The difference is unsigned: when it wraps, the addition subtracts. */
void body_budget_note(struct body_budget *budget, size_t *noted, size_t bytes)
{
    if (!budget || bytes == *noted)
        return;
    atomic_fetch_add_explicit(&budget->memory_bytes, bytes - *noted, memory_order_relaxed);
    *noted = bytes;
}

static void note(struct body *b)
{
    unsigned files = (b->fd >= 0) + (b->spare_fd >= 0);
    size_t cap = b->memory.cap;
    body_budget_note(b->budget, &b->noted_bytes,
                     cap > FREE_MEMORY_BYTES ? cap - FREE_MEMORY_BYTES : 0);
    if (!b->budget || files == b->noted_files)
        return;
    atomic_fetch_add_explicit(&b->budget->files, files - b->noted_files, memory_order_relaxed);
    b->noted_files = files;
}

static void close_file(struct body *b)
{
    if (b->fd >= 0) {
        close(b->fd);
        b->fd = -1;
    }
}

void body_shed(struct body *b)
{
    if (b->spare_fd >= 0) {
        close(b->spare_fd);
        b->spare_fd = -1;
    }
    note(b);
}

void body_reset(struct body *b)
{
    if (b->fd >= 0 && b->length <= KEPT_FILE_BYTES) {
        b->spare_fd = b->fd;
        b->fd = -1;
    }
    close_file(b);
    if (b->memory.cap > KEPT_MEMORY_BYTES) {
        buf_fini(&b->memory);
    }
    buf_reset(&b->memory);
    b->length = 0;
    b->error = 0;
    note(b);
}

void body_fini(struct body *b)
{
    close_file(b);
    buf_fini(&b->memory);
    body_shed(b);
}

static int open_named(const char *dir)
{
    char *path = xasprintf("%s/myserver-body-XXXXXX", dir);
    int fd = mkostemp(path, O_CLOEXEC);
    int error = errno;
    if (fd >= 0) {
        unlink(path);
    }
    free(path);
    errno = error;
    return fd;
}

static int open_unlinked(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    /* Not every file system has O_TMPFILE; each reports that with another errno. */
    return streams_spare(fd >= 0 ? fd : open_named(dir));
}

static enum body_result fail(struct body *b)
{
    b->error = errno;
    close_file(b);
    buf_fini(&b->memory);
    b->length = 0;
    return BODY_FAILED;
}

static enum body_result write_file(struct body *b, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(b->fd, data, len);
        if (n < 0 && errno != EINTR) {
            return fail(b);
        }
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return BODY_OK;
}

/* A kept file may still hold bytes of an earlier body: they are beyond `length`, where nobody
 * reads. */
static int take_file(struct body *b)
{
    int fd = b->spare_fd;
    b->spare_fd = -1;
    if (fd >= 0 && lseek(fd, 0, SEEK_SET) == 0)
        return fd;
    return open_unlinked(b->tmp_dir);
}

static enum body_result spill(struct body *b)
{
    b->fd = take_file(b);
    if (b->fd < 0 || write_file(b, b->memory.data, b->memory.len) != BODY_OK) {
        return b->error ? BODY_FAILED : fail(b);
    }
    buf_fini(&b->memory);
    return BODY_OK;
}

/* Whether the body must go to a file: it is above its own bound, or the budget is used up. Without
 * the budget, many clients with bodies below the bound could use all memory. */
static bool is_too_large(const struct body *b, size_t len)
{
    size_t whole = b->memory.len + len;
    if (len > b->memory_bytes - b->memory.len)
        return true;
    if (whole <= b->memory.cap || whole <= FREE_MEMORY_BYTES)
        return false;
    return body_budget_ends(b->budget, len, whole > KEPT_MEMORY_BYTES ? 1 : 2);
}

static enum body_result append(struct body *b, const char *data, size_t len)
{
    if (b->fd < 0 && is_too_large(b, len) && spill(b) != BODY_OK) {
        return BODY_FAILED;
    }
    if (b->fd < 0) {
        buf_append(&b->memory, data, len);
    } else if (write_file(b, data, len) != BODY_OK) {
        return BODY_FAILED;
    }
    b->length += len;
    return BODY_OK;
}

enum body_result body_append(struct body *b, const char *data, size_t len)
{
    assert(b->error == 0);
    enum body_result result = append(b, data, len);
    note(b);
    return result;
}

static enum body_result copy_pipe(struct body *b, int pipe_fd, size_t len)
{
    char bytes[16 * 1024];
    while (len > 0) {
        ssize_t n = read(pipe_fd, bytes, len < sizeof(bytes) ? len : sizeof(bytes));
        if (n < 0 && errno != EINTR) {
            return fail(b);
        }
        if (n > 0 && write_file(b, bytes, (size_t)n) != BODY_OK) {
            return BODY_FAILED;
        }
        len -= n > 0 ? (size_t)n : 0;
    }
    return BODY_OK;
}

enum body_result body_splice(struct body *b, int pipe_fd, size_t len)
{
    enum body_result result = BODY_OK;
    size_t left = len;
    assert(b->error == 0 && b->fd >= 0);
    while (left > 0 && result == BODY_OK) {
        ssize_t n = splice(pipe_fd, NULL, b->fd, NULL, left, 0);
        if (n > 0) {
            left -= (size_t)n;
        } else if (n < 0 && errno == EINVAL) { /* not every file system supports splice */
            result = copy_pipe(b, pipe_fd, left);
            break;
        } else if (n < 0 && errno != EINTR) {
            result = fail(b);
        }
    }
    b->length += result == BODY_OK ? len : 0;
    note(b);
    return result;
}

ssize_t body_read(const struct body *b, uint64_t offset, char *out, size_t len)
{
    if (offset >= b->length) {
        return 0;
    }
    if (len > b->length - offset) {
        len = (size_t)(b->length - offset);
    }
    if (b->fd < 0) {
        memcpy(out, b->memory.data + offset, len);
        return (ssize_t)len;
    }
    ssize_t n;
    do {
        n = pread(b->fd, out, len, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    return n;
}
