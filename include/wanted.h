/* wanted.h: how many workers there should be, by the operator's signals and settings. Master
 * only. */
#ifndef MYSERVER_WANTED_H
#define MYSERVER_WANTED_H

#include "base/base.h"

#include <stdbool.h>

struct book;

/* WINCH: no workers; the sockets stay open, and new clients wait in the kernel's queue. */
void wanted_pause(struct book *b);
/* Ends a pause: as many workers as before it. False: there was no pause. */
bool wanted_resume(struct book *b);
/* A new mold is current: if its setting of `workers` is another than that of the generation before,
 * it is wanted from now on, whatever TTIN and TTOU had changed. A number that no setting can have
 * is ignored. */
void wanted_configure(struct book *b);
/* TTIN and TTOU: one more (`by` 1) or one less (-1). In a pause, TTIN only ends the pause. */
void wanted_change(struct book *b, int by);

#endif
