/* hang.h: kills workers that are stopped or hang, so that their watch cannot act. */
#ifndef MYSERVER_MASTER_HANG_H
#define MYSERVER_MASTER_HANG_H

#include "base/base.h"

struct book;

/* Looks at the deadlines on the board; reports and kills a worker in which one stays missed. */
void hang_look(struct book *b);
/* When to look again; BOOK_NEVER when nothing runs that has a deadline. */
uint64_t hang_due_ms(const struct book *b);

#endif
