/* inbox.c: letters between processes. Owns nothing.
 *
 * When a worker has died, the master moves the connections in its inbox to another worker, because
 * the worker that replaces it may have another slot. */
#include "shared/inbox.h"

#include "base/fds.h"
#include "base/log.h"
#include "shared/board.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

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

bool inbox_send(int write_fd, const struct letter *letter, int fd)
{
    return fds_send(write_fd, letter, sizeof(*letter), &fd, 1);
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

enum inbox_result inbox_take(int read_fd, struct letter *letter, int *fd)
{
    unsigned count = 1;
    if (!has_free_descriptor(read_fd))
        return INBOX_FULL;
    ssize_t got = fds_receive(read_fd, letter, sizeof(*letter), fd, &count, 0);
    if (got < 0)
        return INBOX_EMPTY;
    if (got == 0)
        return INBOX_WAKE;
    if (count == 1 && *fd >= 0)
        return INBOX_LETTER;
    log_error("a connection given by another worker was lost: no descriptor is free");
    return INBOX_LOST;
}

/* False: `to` is full, and the connection is back in `from`. */
static bool forward_one(const struct letter *letter, int fd, const struct worker_inbox *from,
                        const struct worker_inbox *to, struct board_worker *to_slot)
{
    if (inbox_send(to->write_fd, letter, fd))
        atomic_fetch_add(&to_slot->given, 1);
    else if (inbox_send(from->write_fd, letter, fd))
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
    int fd = -1;
    while (goes) {
        enum inbox_result result = inbox_take(from->read_fd, &letter, &fd);
        if (result == INBOX_EMPTY || result == INBOX_FULL)
            return;
        /* a promotion was meant for the worker that has gone */
        bool is_connection = result == INBOX_LETTER && !letter.generation;
        if (is_connection)
            goes = forward_one(&letter, fd, from, to, to_slot);
        if (result == INBOX_LOST || (is_connection && goes))
            atomic_fetch_add(&from_slot->taken, 1);
        if (result == INBOX_LETTER)
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
    return inbox_send(to->write_fd, &letter, order_fd);
}
