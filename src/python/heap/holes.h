/* holes.h: fills free memory that lies between what the workers share. GIL held. */
#ifndef MYSERVER_PYTHON_HEAP_HOLES_H
#define MYSERVER_PYTHON_HEAP_HOLES_H

/* In the mold, as the last step before it forks: takes every free piece of the heap and keeps it
 * for ever. A worker's allocations then go to fresh pages, side by side, instead of forcing a copy
 * of a shared page for each piece. Whole free pages go back to the kernel. */
void holes_fill(void);

#endif
