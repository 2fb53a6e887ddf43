/* output.c: bytes on their way to a client.
 *
 * Owns: what the socket did not take, copied into memory or spilled into a file, and the descriptor
 * of a file being sent. Never waits for the client, never closes the socket. One system call sends
 * the head and the body together. */
#include "output.h"
#include "system/process.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEPT_BYTES        (16 * 1024)
/* Even a bad line is this fast; a client that takes less is treated as one that takes nothing. */
#define TAKEN_BYTES_PER_S 4096
/* In a shorter time a single packet would look like a fast client. */
#define PACE_MIN_MS       200
/* A client that reads as fast as the server sends would hold the thread, or the loop, until all is
 * sent: after so many system calls, or so many bytes of a file, others get a turn. */
#define SENDS_MAX         4
#define FILE_TURN_BYTES   (4 * 1024 * 1024)
#define FILE_STEP_BYTES   (1024 * 1024)
/* Up to so many bytes, pieces are copied together: that costs less than an iovec for each (60 ns
 * of the 1.2 us that a short answer over loopback spends in send). */
#define JOINED_BYTES      2048

void output_init(struct output *o, _Atomic unsigned *descriptors, struct spill_budget *spills)
{
    *o = (struct output){.file_fd = -1, .descriptors = descriptors};
    spill_init(&o->spill, spills);
}

/* The file is sent, or is not to be sent. */
static void drop_file(struct output *o)
{
    if (o->file_fd < 0)
        return;
    atomic_fetch_sub_explicit(o->descriptors, 1, memory_order_relaxed);
    if (output_is_spilled(o))
        spill_close(&o->spill);
    else
        close(o->file_fd);
    o->file_fd = -1;
}

void output_reset(struct output *o)
{
    drop_file(o);
    if (o->bytes.cap > KEPT_BYTES)
        buf_fini(&o->bytes);
    struct buf bytes = o->bytes;
    output_init(o, o->descriptors, o->spill.budget);
    o->bytes = bytes;
    buf_reset(&o->bytes);
}

void output_fini(struct output *o)
{
    output_reset(o);
    buf_fini(&o->bytes);
}

/* Nothing can be sent any more: drops what is kept here, but for the count. */
static enum output_result gone(struct output *o)
{
    uint64_t total = o->total_bytes;
    output_reset(o);
    o->total_bytes = total;
    return OUTPUT_GONE;
}

/* An error of sendfile(2) may be of the file or of the client's socket: poll(2) on the socket tells
 * which. `sent` 0: the file has become shorter. */
static enum output_result file_failed(struct output *o, int fd, ssize_t sent)
{
    int error = sent == 0 ? ENODATA : errno;
    struct pollfd client = {.fd = fd};
    bool is_clients = error != ENODATA && (error == EPIPE || poll(&client, 1, 0) != 0);
    gone(o);
    o->file_error = is_clients ? 0 : error;
    return OUTPUT_GONE;
}

static bool is_blocked(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK;
}

/* One system call for all pieces. */
static ssize_t send_once(int fd, struct iovec *pieces, unsigned count, int flags)
{
    char joined[JOINED_BYTES];
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    size_t len = 0;
    if (count == 1)
        return send(fd, pieces[0].iov_base, pieces[0].iov_len, flags);
    for (unsigned i = 0; i < count; i++) {
        if (pieces[i].iov_len > sizeof(joined) - len)
            return sendmsg(fd, &message, flags);
        if (pieces[i].iov_len > 0)
            memcpy(joined + len, pieces[i].iov_base, pieces[i].iov_len);
        len += pieces[i].iov_len;
    }
    return send(fd, joined, len, flags);
}

/* Sends pieces until the socket is full or SENDS_MAX is reached; advances them. */
static enum output_result send_pieces(struct output *o, int fd, struct iovec **pieces,
                                      unsigned *count, int flags)
{
    for (unsigned sends = 0; *count > 0; sends++) {
        if (sends == SENDS_MAX)
            return OUTPUT_BLOCKED;
        ssize_t sent = send_once(fd, *pieces, *count, MSG_NOSIGNAL | flags);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return is_blocked(errno) ? OUTPUT_BLOCKED : gone(o);
        o->total_bytes += (size_t)sent;
        size_t left = (size_t)sent;
        while (*count > 0 && left >= (*pieces)->iov_len) {
            left -= (*pieces)->iov_len;
            (*pieces)++;
            (*count)--;
        }
        if (*count > 0) {
            (*pieces)->iov_base = (char *)(*pieces)->iov_base + left;
            (*pieces)->iov_len -= left;
        }
    }
    return OUTPUT_DONE;
}

/* Sends the bytes in memory that come first: with the tail, unless a file is between them. */
static enum output_result flush_bytes(struct output *o, int fd)
{
    struct iovec pieces[2] = {
        {o->bytes.data + o->bytes_sent, o->bytes.len - o->bytes_sent},
        {(char *)(uintptr_t)o->tail, o->tail_len},
    };
    struct iovec *next = pieces;
    bool file_follows = o->file_fd >= 0;
    unsigned first = file_follows ? 1 : 2, count = first;
    if (pieces[0].iov_len == 0 && (file_follows || o->tail_len == 0))
        return OUTPUT_DONE;
    bool more = file_follows && o->file_bytes > 0;
    enum output_result result = send_pieces(o, fd, &next, &count, more ? MSG_MORE : 0);
    if (result == OUTPUT_GONE)
        return result;
    if (count == first) {
        o->bytes_sent = o->bytes.len - pieces[0].iov_len;
        return result;
    }
    buf_reset(&o->bytes);
    o->bytes_sent = 0;
    if (file_follows)
        return result;
    o->tail = count ? pieces[1].iov_base : NULL;
    o->tail_len = count ? pieces[1].iov_len : 0;
    return result;
}

static ssize_t sendfile_step(const struct output *o, int fd)
{
    off_t offset = (off_t)o->file_offset;
    size_t step = o->file_bytes < FILE_STEP_BYTES ? (size_t)o->file_bytes : FILE_STEP_BYTES;
    return sendfile(fd, o->file_fd, &offset, step);
}

static enum output_result flush_file(struct output *o, int fd)
{
    uint64_t turn_end = o->total_bytes + FILE_TURN_BYTES;
    process_ignore_broken_pipes(); /* the application may have undone it; no MSG_NOSIGNAL here */
    while (o->file_bytes > 0) {
        if (o->total_bytes >= turn_end)
            return OUTPUT_BLOCKED;
        ssize_t sent = sendfile_step(o, fd);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && is_blocked(errno))
            return OUTPUT_BLOCKED;
        if (sent <= 0)
            return file_failed(o, fd, sent);
        o->total_bytes += (size_t)sent;
        o->file_offset += (size_t)sent;
        o->file_bytes -= (size_t)sent;
    }
    drop_file(o);
    return OUTPUT_DONE;
}

enum output_result output_flush(struct output *o, int fd)
{
    enum output_result result = flush_bytes(o, fd);
    if (result == OUTPUT_DONE && o->file_fd >= 0) {
        result = flush_file(o, fd);
        if (result == OUTPUT_DONE)
            result = flush_bytes(o, fd);
    }
    return result;
}

enum output_result output_try(struct output *o, int fd, struct iovec **pieces, unsigned *count)
{
    enum output_result result = output_is_empty(o) ? OUTPUT_DONE : output_flush(o, fd);
    return result == OUTPUT_DONE ? send_pieces(o, fd, pieces, count, 0) : result;
}

void output_copy(struct output *o, const struct iovec *pieces, unsigned count)
{
    /* With a client that is always a little behind, the buffer never gets empty: what was sent is
     * removed here, or a long stream would be kept whole. Only when it is more than half of the
     * bytes, so that each of them is moved about once. */
    if (o->bytes_sent > o->bytes.len / 2) {
        buf_consume(&o->bytes, o->bytes_sent);
        o->bytes_sent = 0;
    }
    assert(o->file_fd < 0);
    for (unsigned i = 0; i < count; i++)
        buf_append(&o->bytes, pieces[i].iov_base, pieces[i].iov_len);
}

void output_borrow(struct output *o, struct iovec piece, size_t whole_bytes)
{
    assert(o->tail_len == 0);
    o->tail = piece.iov_base;
    o->tail_len = piece.iov_len;
    o->borrowed_bytes = whole_bytes;
}

bool output_spill(struct output *o, const struct iovec *pieces, unsigned count)
{
    uint64_t before = o->spill.end;
    if (!spill_append(&o->spill, pieces, count))
        return false;
    if (o->file_fd < 0) {
        o->file_fd = o->spill.fd;
        o->file_offset = o->file_bytes = 0;
        atomic_fetch_add_explicit(o->descriptors, 1, memory_order_relaxed);
    }
    o->file_bytes += o->spill.end - before;
    return true;
}

enum output_result output_send(struct output *o, int fd, struct iovec piece)
{
    struct iovec *pieces = &piece;
    unsigned count = 1;
    enum output_result result = output_try(o, fd, &pieces, &count);
    if (result == OUTPUT_BLOCKED)
        output_copy(o, pieces, count);
    return result;
}

enum output_result output_send_file(struct output *o, int fd, struct iovec head, int file_fd,
                                    uint64_t offset, uint64_t bytes)
{
    buf_append(&o->bytes, head.iov_base, head.iov_len);
    assert(o->file_fd < 0);
    o->file_fd = file_fd;
    atomic_fetch_add_explicit(o->descriptors, 1, memory_order_relaxed);
    o->file_offset = offset;
    o->file_bytes = bytes;
    return output_flush(o, fd);
}

unsigned output_untaken(int fd)
{
    int bytes = 0;
    return ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? (unsigned)bytes : 0;
}

bool output_is_taken(int fd, unsigned *untaken, uint64_t ms)
{
    uint64_t before = *untaken;
    *untaken = output_untaken(fd);
    return before >= *untaken + ms * TAKEN_BYTES_PER_S / 1000;
}

uint64_t output_pace_note(struct output_pace *pace, const struct output *o, int fd)
{
    uint64_t now = now_ms(), untaken = output_untaken(fd);
    /* On unix sockets the kernel's count may be larger than what was given to it. */
    uint64_t taken = o->total_bytes > untaken ? o->total_bytes - untaken : 0;
    if (pace->since_ms == 0)
        *pace = (struct output_pace){.since_ms = now, .taken_bytes = taken, .begun_ms = now};
    uint64_t ms = now - pace->since_ms;
    if (ms < PACE_MIN_MS || taken < pace->taken_bytes + ms * TAKEN_BYTES_PER_S / 1000)
        return ms;
    pace->since_ms = now;
    pace->taken_bytes = taken;
    return 0;
}
