/* upgrade.h: another program, or the same with other settings, takes this master's place, with
 * the same sockets and without a moment in which nobody serves. */
#ifndef MYSERVER_UPGRADE_H
#define MYSERVER_UPGRADE_H

#include "base.h"

#include <stdbool.h>
#include <sys/types.h>

struct book;

struct upgrade {
    pid_t successor;    /* 0: none is on its way */
    int heard_fd;       /* it says here that it serves; -1: none */
    bool left;          /* it has taken over: sockets and files are its own */
    pid_t predecessor;  /* 0: this master was started by hand, or has taken over */
    int tell_fd;        /* to it; -1: none */
    bool root_answered; /* under its code; see board.h */
};

/* Learns from the environment whether this is a successor. */
void upgrade_init(struct upgrade *u);
/* USR2: starts the program anew beside this one. */
void upgrade_begin(struct book *b);
/* The successor may have said something. */
void upgrade_hear(struct book *b);
/* A child has ended, with `status`, which `why` has in words; true when it was the successor. */
bool upgrade_on_exit(struct book *b, pid_t pid, int status, const char *why);
/* Successor: all workers serve. Tells the predecessor to leave, if there is one. */
void upgrade_take_over(struct book *b);
/* This master is told to stop: a successor that has not taken over stops too. */
void upgrade_call_off(struct book *b);

#endif
