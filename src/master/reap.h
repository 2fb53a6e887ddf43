/* reap.h: children that have ended. */
#ifndef MYSERVER_MASTER_REAP_H
#define MYSERVER_MASTER_REAP_H

#include "base/base.h"

struct book;
struct slot;

#define REAP_PROVEN_MS 1000 /* a process that has run this long did not fail at start */

/* SIGCHLD: reaps all children that have ended. */
void reap_children(struct book *b);
/* The worker of `s` has ended with `status`: says and counts it, and clears the slot. */
void reap_worker(struct book *b, struct slot *s, int status);
/* Lets a worker go that has answered everything: its slot is free for another. Without room for it
 * the worker stays where it is. */
void reap_let_go(struct book *b, struct slot *s);

#endif
