/* late.h: processes that have not reached their next state in time. */
#ifndef MYSERVER_MASTER_LATE_H
#define MYSERVER_MASTER_LATE_H

struct book;

/* Asks the processes that are past their deadline for their stacks or kills them, and marks the
 * workers that have served for REAP_PROVEN_MS as proven. */
void late_look(struct book *b);

#endif
