/* wedge.h: kills workers that are stopped or hang, so that their watch cannot act. */
#ifndef MYSERVER_WEDGE_H
#define MYSERVER_WEDGE_H

#include "base/base.h"

struct book;

/* Looks at the deadlines on the board; reports and kills a worker in which one stays missed. */
void wedge_look(struct book *b);
/* When to look again; BOOK_NEVER when nothing runs that has a deadline. */
uint64_t wedge_due_ms(const struct book *b);

#endif
