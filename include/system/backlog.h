/* backlog.h: how many connections wait in the kernel to be accepted. */
#ifndef MYSERVER_SYSTEM_BACKLOG_H
#define MYSERVER_SYSTEM_BACKLOG_H

#include "base/base.h"

#include <stdbool.h>
#include <sys/types.h>

struct listeners;

/* One listening socket. */
struct backlog {
    int family;  /* of the socket */
    ino_t inode; /* of the socket; identifies it to the kernel */
    bool known;  /* the kernel reported it at the last reading */
    unsigned waiting, room;
};

/* Fills `all` for each listener, while its descriptor is open. */
void backlog_init(struct backlog *all, const struct listeners *listeners);
/* Asks the kernel for `waiting` and `room` of all; needs no descriptor of the sockets. */
void backlog_read(struct backlog *all, size_t count);
/* For backlog_waiting: a descriptor, to be closed; -1: none is needed, or it is not allowed. */
MUST_CHECK int backlog_open(const struct listeners *listeners);
/* `waiting` of one socket, by its descriptor: in 6 us, of TCP in less. Where the kernel does not
 * tell, 1 if any waits. */
unsigned backlog_waiting(const struct backlog *one, int fd, int netlink_fd);
/* Whether connections to these ports are about to enter a queue: their handshake is not complete,
 * or with TCP_DEFER_ACCEPT their request has not come. False also where the kernel does not
 * tell. */
MUST_CHECK bool backlog_has_handshakes(const struct listeners *listeners);

#endif
