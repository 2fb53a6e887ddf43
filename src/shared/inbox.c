/* inbox.c: how workers give each other connections.
 *
 * Owns: nothing. A kept-alive connection whose request would wait behind a busy worker, or whose
 * worker drains, moves to another worker: its descriptor and its origin are sent in one datagram.
 * It moves only while no byte of its next request has been read, so nothing can be lost. When a
 * worker has died, the master moves the connections in its inbox to another worker, because the
 * worker that replaces it may have another slot. */
#include "shared/inbox.h"
#include "base/log.h"
#include "shared/board.h"
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOST (-2)

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
};

struct letter {
    /* 0: `fd` is a connection; else it is the pipe with orders for the mold of this generation */
    uint32_t generation;
    uint64_t parked_ns;
    struct conn_origin origin;
};

struct worker_inbox *inbox_open_all(unsigned count)
{
    struct worker_inbox *all = xcalloc(count, sizeof *all);
    for (unsigned i = 0; i < count; i++) {
        int fds[2];
        if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
            die(EXIT_CRASH,
                "cannot make a socket pair for each worker and its replacement: %s; raise the "
                "limit of open files (ulimit -n, LimitNOFILE), or have fewer workers",
                strerror(errno));
        all[i] = (struct worker_inbox){.read_fd = fds[0], .write_fd = fds[1]};
    }
    return all;
}

void inbox_close_all(struct worker_inbox *all, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        close(all[i].read_fd);
        close(all[i].write_fd);
    }
    free(all);
}

static bool send_one(int write_fd, const struct letter *letter, int fd)
{
    struct iovec piece = {(void *)letter, sizeof(*letter)};
    union control control = {0};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(int));
    return sendmsg(write_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

bool inbox_give(struct conn *c, int write_fd)
{
    assert(c->state == CONN_IDLE && !c->exchange);
    const struct letter letter = {.parked_ns = c->parked_ns, .origin = c->origin};
    if (!send_one(write_fd, &letter, c->fd))
        return false;
    /* The epoll instance of this worker watches the open file description, which stays open in the
     * other worker: after close() alone it would be watched for ever (epoll(7), Q6). libev has no
     * call for this. */
    (void)epoll_ctl(c->shared->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    conn_close(c, "given to another worker");
    return true;
}

/* Takes one datagram. False: the inbox is empty. `*fd` is -1 for a datagram that only wakes the
 * worker, and LOST when this process has no free descriptor to receive one with. */
static bool take_one(int read_fd, struct letter *letter, int *fd)
{
    struct iovec piece = {letter, sizeof(*letter)};
    union control control;
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    *fd = -1;
    ssize_t got = recvmsg(read_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0)
        return false;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (got == (ssize_t)sizeof(*letter) && header && header->cmsg_type == SCM_RIGHTS) {
        memcpy(fd, CMSG_DATA(header), sizeof(int));
        *fd = streams_spare(*fd);
    }
    if (got > 0 && *fd < 0) {
        *fd = LOST;
        log_error("a connection given by another worker was lost: no descriptor is free");
    }
    return true;
}

/* recvmsg(2) drops a descriptor that it finds no number for: ask before. */
static bool has_free_descriptor(int read_fd)
{
    int fd = fcntl(read_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

bool inbox_adopt_all(struct conn_shared *shared, int read_fd, struct worker_promotion *promotion)
{
    struct letter letter;
    int fd;
    for (;;) {
        if (!has_free_descriptor(read_fd))
            return false;
        if (!take_one(read_fd, &letter, &fd))
            return true;
        if (fd >= 0 && letter.generation) {
            *promotion = (struct worker_promotion){fd, letter.generation};
            continue;
        }
        if (fd >= 0 || fd == LOST)
            atomic_fetch_add(&shared->board->taken, 1);
        if (fd >= 0)
            conn_adopt(shared, fd, &letter.origin, letter.parked_ns);
    }
}

/* False: `to` is full, and the connection is back in `from`. */
static bool forward_one(const struct letter *letter, int fd, const struct worker_inbox *from,
                        const struct worker_inbox *to, struct board_worker *to_slot)
{
    if (send_one(to->write_fd, letter, fd))
        atomic_fetch_add(&to_slot->given, 1);
    else if (send_one(from->write_fd, letter, fd))
        return false;
    else
        log_error("a connection given to a worker that is gone was lost: %s", strerror(errno));
    return true;
}

void inbox_forward(const struct worker_inbox *from, struct board_worker *from_slot,
                   const struct worker_inbox *to, struct board_worker *to_slot)
{
    struct letter letter;
    bool goes = true;
    int fd;
    while (goes && take_one(from->read_fd, &letter, &fd)) {
        /* a promotion was meant for the worker that has gone */
        bool is_connection = fd >= 0 && !letter.generation;
        if (is_connection)
            goes = forward_one(&letter, fd, from, to, to_slot);
        if (fd == LOST || (is_connection && goes))
            atomic_fetch_add(&from_slot->taken, 1);
        if (fd >= 0)
            close(fd);
    }
}

void inbox_wake(int write_fd)
{
    (void)send(write_fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL); /* a full inbox wakes it as well */
}

bool inbox_promote(const struct worker_inbox *to, uint32_t generation, int order_fd)
{
    const struct letter letter = {.generation = generation};
    return send_one(to->write_fd, &letter, order_fd);
}
