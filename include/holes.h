/* holes.h: free memory between what the workers share. Layer 3; GIL held. */
#ifndef MYSERVER_HOLES_H
#define MYSERVER_HOLES_H

/* In the mold, last before it forks: takes every free piece of the heap and keeps it for ever, so
 * that what a worker allocates goes to fresh pages, side by side, instead of making a copy of a
 * shared page for each piece. Whole free pages go back to the kernel. */
void holes_fill(void);

#endif
