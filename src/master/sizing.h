/* sizing.h: the number of workers follows the load, if workers-min is set. */
#ifndef MYSERVER_MASTER_SIZING_H
#define MYSERVER_MASTER_SIZING_H

#include "base/base.h"

struct book;

/* Looks at the load, if it is time, and changes how many workers are wanted. */
void sizing_look(struct book *b);
/* When it wants to look again; BOOK_NEVER: never. */
uint64_t sizing_due_ms(const struct book *b);

#endif
