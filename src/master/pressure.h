/* pressure.h: max-worker-memory = auto: a worker is replaced before the kernel kills one because
 * the control group's memory is used up. */
#ifndef MYSERVER_MASTER_PRESSURE_H
#define MYSERVER_MASTER_PRESSURE_H

#include "base/base.h"

struct book;
struct slot;

/* Whether there is a limit; one that is set later is not looked at. */
void pressure_init(struct book *b);
/* The worker begins to serve: notes what it has, if there is a limit. The kernel walks all its
 * pages. */
void pressure_weigh(const struct book *b, struct slot *s);
/* Looks once a second, if there is a limit: when nine tenths of it are in use, retires the serving
 * worker that has grown most. One at a time, and none that has grown little: a new one would be as
 * large. */
void pressure_look(struct book *b);

#endif
