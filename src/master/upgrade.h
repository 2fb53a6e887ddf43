/* upgrade.h: a new master, started from the program file as it is now, takes the place of this one,
 * with the same sockets and without a moment in which nobody serves. */
#ifndef MYSERVER_MASTER_UPGRADE_H
#define MYSERVER_MASTER_UPGRADE_H

#include "base/base.h"

#include <stdbool.h>
#include <sys/types.h>

struct listeners;

struct upgrade {
    pid_t successor;              /* the new master; 0: none */
    int heard_fd;                 /* reads the byte by which the successor takes over; -1: none */
    bool left;                    /* the successor has taken over: sockets and files are its own */
    pid_t predecessor;            /* the old master; 0: there is none, or this one has taken over */
    pid_t leaves;                 /* the old master while it drains; 0: there is none */
    int tell_fd;                  /* writes that byte to the predecessor; -1: none */
    struct listeners *sockets[3]; /* borrowed; go along to the successor */
};

/* What the end of a process means for an upgrade. */
enum upgrade_end {
    UPGRADE_OTHER,  /* it was not the successor */
    UPGRADE_FAILED, /* the successor ended before it took over: this master goes on */
    UPGRADE_LEFT,   /* it had taken over unheard: as if upgrade_hear had returned true */
    UPGRADE_GONE,   /* it ended after it had taken over */
};

/* Learns from the environment whether this is a successor. Borrows the sockets: the application's
 * and those of the control process. */
void upgrade_init(struct upgrade *u, struct listeners *app, struct listeners *http,
                  struct listeners *stats);
/* USR2: starts the program anew beside this one, if this one `serves`. */
void upgrade_begin(struct upgrade *u, bool serves);
/* Reads heard_fd, if there is one. True: the successor serves, and this server is to stop. */
MUST_CHECK bool upgrade_hear(struct upgrade *u);
/* A child has ended with `status`, in words `why`; `and_now` follows the sentence about a failure.
 */
MUST_CHECK enum upgrade_end upgrade_on_exit(struct upgrade *u, pid_t pid, int status,
                                            const char *why, const char *and_now);
/* Successor: all workers serve. Tells the predecessor to leave, if there is one. */
void upgrade_take_over(struct upgrade *u);
/* Successor: once the predecessor has ended, tells the service manager again which process is the
 * main one. systemd waits for the end of a main process only if that is its child, which it asks
 * when the main process changes: at that time this one was the predecessor's. So for a moment the
 * main process is `other`, any one of the service. */
void upgrade_look(struct upgrade *u, pid_t other);
/* This master is told to stop: a successor that has not taken over stops too. */
void upgrade_call_off(const struct upgrade *u);

#endif
