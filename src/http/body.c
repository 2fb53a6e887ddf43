/* body.c: a request body, in memory up to a bound and above it in a file without a name; or its end
 * in the kernel.
 *
 * Owns the memory and the descriptor of the file. Waits for nothing but the disk. */
#include "http/body.h"
#include "base/blocks.h"
#include "base/unlinked.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A larger body is in blocks. So a client that has sent little has little memory. */
#define KEPT_MEMORY_BYTES 65536
/* A body up to this size, such as a short form, is kept in memory whatever the budget says, and is
 * not counted. */
#define FREE_MEMORY_BYTES 4096
/* A file up to this size is kept for the next body: writing over existing pages costs a third of
 * making and dropping them (10 MB: 2.7 ms against 7.7 on ext4). */
#define KEPT_FILE_BYTES   (16 * 1024 * 1024)
/* Less than this is not worth a system call: a block is filled instead. */
#define SOURCE_BYTES_MIN  (16 * 1024)

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
    size_t cap = b->memory.cap, bytes = cap > FREE_MEMORY_BYTES ? cap - FREE_MEMORY_BYTES : 0;
    bytes += (b->block_count - b->dropped_blocks) * BLOCK_BYTES + (size_t)b->rest;
    body_budget_note(b->budget, &b->noted_bytes, bytes);
    if (!b->budget)
        return;
    uint64_t memfd_bytes = b->fd >= 0 && !b->tmp_dir ? b->length - b->kept_end : 0;
    if (memfd_bytes != b->noted_memfd_bytes)
        atomic_fetch_add_explicit(&b->budget->memfd_bytes, memfd_bytes - b->noted_memfd_bytes,
                                  memory_order_relaxed);
    b->noted_memfd_bytes = memfd_bytes;
    if (files != b->noted_files)
        atomic_fetch_add_explicit(&b->budget->files, files - b->noted_files, memory_order_relaxed);
    b->noted_files = files;
}

/* Whether `more` bytes would be too many for files that no disk bounds. */
static bool is_memory_full(const struct body *b, size_t more)
{
    if (b->tmp_dir || !b->budget)
        return false;
    uint64_t others =
        atomic_load_explicit(&b->budget->memfd_bytes, memory_order_relaxed) - b->noted_memfd_bytes;
    return others + b->length - b->kept_end + more > b->budget->memfd_max_bytes;
}

/* ---- blocks ---- */

static void drop_blocks(struct body *b, size_t count)
{
    for (; b->dropped_blocks < count; b->dropped_blocks++)
        blocks_put(b->blocks[b->dropped_blocks]);
}

static void free_blocks(struct body *b)
{
    drop_blocks(b, b->block_count);
    free(b->blocks);
    b->blocks = NULL;
    b->block_count = b->dropped_blocks = 0;
    b->blocks_from = 0;
}

static bool add_block(struct body *b)
{
    char *block = blocks_take();
    if (!block)
        return false;
    if ((b->block_count & (b->block_count - 1)) == 0) { /* a power of two: all places are used */
        size_t places = b->block_count ? 2 * b->block_count : 1;
        b->blocks = xrealloc(b->blocks, places * sizeof(*b->blocks));
    }
    b->blocks[b->block_count++] = block;
    return true;
}

static bool reserve_blocks(struct body *b, size_t bytes)
{
    while (b->block_count * BLOCK_BYTES < bytes)
        if (!add_block(b))
            return false;
    return true;
}

static char *block_at(const struct body *b, uint64_t offset, size_t *len)
{
    size_t at = (size_t)(offset - b->blocks_from), in_block = at % BLOCK_BYTES;
    *len = BLOCK_BYTES - in_block;
    return b->blocks[at / BLOCK_BYTES] + in_block;
}

static void fill_blocks(struct body *b, uint64_t offset, const char *data, size_t len)
{
    while (len > 0) {
        size_t room;
        char *at = block_at(b, offset, &room);
        size_t step = len < room ? len : room;
        memcpy(at, data, step);
        offset += step;
        data += step;
        len -= step;
    }
}

static bool move_to_blocks(struct body *b)
{
    if (!reserve_blocks(b, b->memory.len))
        return false;
    fill_blocks(b, 0, b->memory.data, b->memory.len);
    buf_fini(&b->memory);
    return true;
}

/* ---- the file ---- */

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

/* If it cannot be read, the connection is at its end. */
static void discard_rest(struct body *b)
{
    while (b->source && b->rest > 0) {
        ssize_t n = b->source(b->socket, NULL, (size_t)b->rest);
        if (n <= 0)
            break;
        b->rest -= (uint64_t)n;
    }
    b->source = NULL;
    b->rest = 0;
}

void body_reset(struct body *b)
{
    if (b->fd >= 0 && b->tmp_dir && b->length <= KEPT_FILE_BYTES) {
        b->spare_fd = b->fd;
        b->fd = -1;
    }
    close_file(b);
    if (b->memory.cap > KEPT_MEMORY_BYTES)
        buf_fini(&b->memory);
    buf_reset(&b->memory);
    free_blocks(b);
    discard_rest(b);
    b->length = b->kept_end = b->announced = 0;
    b->error = 0;
    note(b);
}

void body_fini(struct body *b)
{
    close_file(b);
    free_blocks(b);
    buf_fini(&b->memory);
    b->rest = 0;
    body_shed(b);
}

static enum body_result fail(struct body *b)
{
    b->error = errno;
    close_file(b);
    free_blocks(b);
    buf_fini(&b->memory);
    b->length = b->kept_end = b->rest = 0;
    return BODY_FAILED;
}

/* As a full disk would. */
static enum body_result fail_full(struct body *b)
{
    errno = ENOSPC;
    return fail(b);
}

static bool write_all(int fd, uint64_t offset, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, (off_t)offset);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            offset += (uint64_t)n;
            data += n;
            len -= (size_t)n;
        }
    }
    return true;
}

static enum body_result write_file(struct body *b, uint64_t offset, const char *data, size_t len)
{
    return write_all(b->fd, offset, data, len) ? BODY_OK : fail(b);
}

/* A kept file may still hold bytes of an earlier body: they are beyond `length`, where nobody
 * reads, or where this one's are in memory. */
static bool open_file(struct body *b)
{
    b->fd = b->spare_fd >= 0 ? b->spare_fd : unlinked_open(b->tmp_dir);
    b->spare_fd = -1;
    return b->fd >= 0;
}

static bool write_kept(struct body *b)
{
    size_t len;
    for (uint64_t offset = 0; offset < b->kept_end; offset += len) {
        const char *piece = body_piece(b, offset, &len);
        if (!write_all(b->fd, offset, piece, len))
            return false;
    }
    free_blocks(b);
    buf_fini(&b->memory);
    b->kept_end = 0;
    return true;
}

/* What is in blocks stays there: writing it would be a pause, and reading it a second copy. */
static enum body_result begin_file(struct body *b)
{
    return open_file(b) && (b->block_count > 0 || write_kept(b)) ? BODY_OK : fail(b);
}

bool body_unload(struct body *b)
{
    assert(b->dropped_blocks == 0);
    bool is_new = b->fd < 0;
    bool done = (!is_new || open_file(b)) && write_kept(b);
    if (!done && is_new)
        close_file(b);
    note(b);
    return done;
}

/* ---- what comes ---- */

/* A body that will go to a file anyway takes no blocks: they would only be missed elsewhere. */
static size_t kept_bytes_max(const struct body *b)
{
    bool all = b->announced <= b->memory_bytes || b->memory_bytes < KEPT_MEMORY_BYTES;
    return all ? b->memory_bytes : KEPT_MEMORY_BYTES;
}

/* Whether the body may have so many bytes in memory, by its own bound and the budget. Without the
 * budget, many clients with bodies below the bound could use all memory. */
static bool may_keep(const struct body *b, size_t whole)
{
    size_t cap = b->block_count ? b->block_count * BLOCK_BYTES : b->memory.cap;
    bool is_large = whole > KEPT_MEMORY_BYTES;
    if (whole > kept_bytes_max(b))
        return false;
    if (whole <= cap || whole <= FREE_MEMORY_BYTES)
        return true;
    return !body_budget_ends(b->budget, is_large ? BLOCK_BYTES : whole - b->length,
                             is_large ? 1 : 2);
}

/* False: the system has no memory. */
static bool keep(struct body *b, const char *data, size_t len)
{
    size_t whole = (size_t)b->length + len;
    if (whole <= KEPT_MEMORY_BYTES && b->block_count == 0) {
        buf_append(&b->memory, data, len);
    } else {
        if (!move_to_blocks(b) || !reserve_blocks(b, whole))
            return false;
        fill_blocks(b, b->length, data, len);
    }
    b->length = b->kept_end = whole;
    return true;
}

static enum body_result append(struct body *b, const char *data, size_t len)
{
    if (b->fd < 0 && may_keep(b, (size_t)b->length + len) && keep(b, data, len))
        return BODY_OK;
    if (is_memory_full(b, len))
        return fail_full(b);
    if ((b->fd < 0 && begin_file(b) != BODY_OK) || write_file(b, b->length, data, len) != BODY_OK)
        return BODY_FAILED;
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

/* Whether a large body goes on in memory, with a block for its next bytes. */
static bool has_block(struct body *b)
{
    if (b->fd >= 0 || b->block_count == 0 || b->announced == 0)
        return false;
    return b->length < b->block_count * BLOCK_BYTES ||
           (may_keep(b, (size_t)b->length + 1) && add_block(b));
}

char *body_room(struct body *b, size_t *room_bytes)
{
    if (!has_block(b))
        return NULL;
    note(b);
    char *at = block_at(b, b->length, room_bytes);
    uint64_t left = b->announced - b->length;
    if (left < *room_bytes)
        *room_bytes = (size_t)left;
    return at;
}

void body_took(struct body *b, size_t len)
{
    b->length += len;
    b->kept_end = b->length;
}

static enum body_result copy_pipe(struct body *b, int pipe_fd, uint64_t offset, size_t len)
{
    char bytes[16 * 1024];
    while (len > 0) {
        ssize_t n = read(pipe_fd, bytes, len < sizeof(bytes) ? len : sizeof(bytes));
        if (n < 0 && errno != EINTR)
            return fail(b);
        if (n > 0 && write_file(b, offset, bytes, (size_t)n) != BODY_OK)
            return BODY_FAILED;
        offset += n > 0 ? (uint64_t)n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return BODY_OK;
}

enum body_result body_splice(struct body *b, int pipe_fd, size_t len)
{
    assert(b->error == 0 && b->fd >= 0);
    off_t offset = (off_t)b->length, end = offset + (off_t)len;
    enum body_result result = is_memory_full(b, len) ? fail_full(b) : BODY_OK;
    while (offset < end && result == BODY_OK) {
        ssize_t n = splice(pipe_fd, NULL, b->fd, &offset, (size_t)(end - offset), 0);
        if (n < 0 && errno == EINVAL) { /* not every file system supports splice */
            result = copy_pipe(b, pipe_fd, (uint64_t)offset, (size_t)(end - offset));
            break;
        }
        if (n < 0 && errno != EINTR)
            result = fail(b);
    }
    b->length += result == BODY_OK ? len : 0;
    note(b);
    return result;
}

/* ---- what is in the kernel's memory ---- */

bool body_await(struct body *b, uint64_t len)
{
    if (b->fd >= 0 || b->length + len > b->memory_bytes ||
        body_budget_ends(b->budget, (size_t)len, 1))
        return false;
    b->rest = len;
    note(b);
    return true;
}

void body_want(struct body *b)
{
    b->rest = 0;
    note(b);
}

void body_leave(struct body *b, body_source *source, int socket, uint64_t len)
{
    assert(b->fd < 0 && b->error == 0);
    b->source = source;
    b->socket = socket;
    b->rest = len;
    b->length += len;
    note(b);
}

static ssize_t take_rest(struct body *b, char *out, size_t len)
{
    ssize_t n = b->source(b->socket, out, len < b->rest ? len : (size_t)b->rest);
    b->rest -= n > 0 ? (uint64_t)n : 0;
    return n;
}

/* Fills a block with what comes next. What is in memory from before stays, if it is not read yet:
 * then there is nothing between it and the rest. False: it cannot be read. */
static bool fetch(struct body *b)
{
    uint64_t from = b->length - b->rest;
    size_t room;
    if (from != b->kept_end) {
        buf_fini(&b->memory);
        free_blocks(b);
        b->blocks_from = from;
    } else if (b->block_count == 0 && !move_to_blocks(b)) {
        return false;
    }
    if (from - b->blocks_from == b->block_count * BLOCK_BYTES && !add_block(b))
        return false;
    char *at = block_at(b, from, &room);
    ssize_t n = take_rest(b, at, room);
    b->kept_end = from + (n > 0 ? (uint64_t)n : 0);
    note(b);
    return n > 0;
}

/* ---- what is read ---- */

const char *body_piece(struct body *b, uint64_t offset, size_t *len)
{
    while (offset >= b->kept_end && offset >= b->length - b->rest && offset < b->length)
        if (!fetch(b))
            return NULL;
    if (offset >= b->kept_end)
        return NULL;
    uint64_t left = b->kept_end - offset;
    if (b->block_count == 0) {
        *len = (size_t)left;
        return b->memory.data + offset;
    }
    const char *piece = block_at(b, offset, len);
    if (left < *len)
        *len = (size_t)left;
    return piece;
}

void body_drop(struct body *b, uint64_t offset)
{
    size_t passed = offset > b->blocks_from ? (size_t)(offset - b->blocks_from) / BLOCK_BYTES : 0;
    if (offset == b->length)
        passed = b->block_count; /* also the last one, which may not be full */
    if (passed > b->block_count)
        passed = b->block_count;
    if (passed <= b->dropped_blocks)
        return;
    drop_blocks(b, passed);
    note(b);
}

static ssize_t read_file(const struct body *b, uint64_t offset, char *out, size_t len)
{
    ssize_t n;
    do {
        n = pread(b->fd, out, len, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    return n;
}

ssize_t body_read(struct body *b, uint64_t offset, char *out, size_t len)
{
    if (offset >= b->length)
        return 0;
    if (len > b->length - offset)
        len = (size_t)(b->length - offset);
    bool is_next = b->rest > 0 && offset == b->length - b->rest;
    if (is_next && (len >= SOURCE_BYTES_MIN || len == b->rest)) {
        ssize_t n = take_rest(b, out, len);
        note(b);
        return n;
    }
    size_t there;
    const char *piece = body_piece(b, offset, &there);
    if (piece) {
        size_t step = len < there ? len : there;
        memcpy(out, piece, step);
        return (ssize_t)step;
    }
    return b->rest > 0 ? -1 : read_file(b, offset, out, len);
}
