/* upgrade.h: a new master, started from the program file as it is now, takes the place of this one,
 * with the same sockets and without a moment in which nobody serves. */
#ifndef MYSERVER_UPGRADE_H
#define MYSERVER_UPGRADE_H

#include "base/base.h"

#include <stdbool.h>
#include <sys/types.h>

struct book;

struct upgrade {
    pid_t successor;    /* the new master; 0: none */
    int heard_fd;       /* reads the byte by which the successor takes over; -1: none */
    bool left;          /* the successor has taken over: sockets and files are its own */
    pid_t predecessor;  /* the old master; 0: there is none, or this one has taken over */
    int tell_fd;        /* writes that byte to the predecessor; -1: none */
    bool root_answered; /* "/" answered under the predecessor's code; see enum board_root */
};

/* Learns from the environment whether this is a successor. */
void upgrade_init(struct upgrade *u);
/* USR2: starts the program anew beside this one. */
void upgrade_begin(struct book *b);
/* Reads heard_fd, if there is one; when the successor serves, begins to drain this server. */
void upgrade_hear(struct book *b);
/* A child has ended with `status`, in words `why`. True when it was the successor. */
bool upgrade_on_exit(struct book *b, pid_t pid, int status, const char *why);
/* Successor: all workers serve. Tells the predecessor to leave, if there is one. */
void upgrade_take_over(struct book *b);
/* This master is told to stop: a successor that has not taken over stops too. */
void upgrade_call_off(struct book *b);

#endif
