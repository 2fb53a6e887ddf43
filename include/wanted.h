/* wanted.h: how many workers there should be, as the operator says by signals and
 * settings. Master only. */
#ifndef MYSERVER_WANTED_H
#define MYSERVER_WANTED_H

#include "base.h"

#include <stdbool.h>

struct book;

/* WINCH: no workers, but the sockets stay, and who connects waits in the kernel's queue. */
void wanted_pause(struct book *b);
/* As many as before the pause; false where there was none. */
bool wanted_resume(struct book *b);
/* The current mold's settings count: another number than that of the generation before is from now
 * on the one that is wanted, whatever TTIN and TTOU had made of it. What no setting can be is
 * ignored. */
void wanted_configure(struct book *b);
/* TTIN and TTOU: one more (`by` 1) or one less (-1). In a pause TTIN ends it and adds none. */
void wanted_change(struct book *b, int by);

#endif
