/* scale.h: how many workers there should be: by the operator's signals and settings, and with
 * workers-min also by the load. */
#ifndef MYSERVER_MASTER_SCALE_H
#define MYSERVER_MASTER_SCALE_H

#include "base/base.h"

#include <stdbool.h>

struct scale {
    unsigned wanted;       /* workers; 0: paused */
    unsigned before_pause; /* workers when the pause began */
    unsigned limit;        /* the operator's number: at most so many */
    unsigned least; /* workers-min: at least so many, unless the limit is lower; 0: as the limit */
    unsigned configured; /* number of workers in the settings that were last applied */
    unsigned most;       /* there is room for so many */
};

/* Begins with the smallest number that the settings allow. `workers_min` 0: not set. */
void scale_begin(struct scale *s, unsigned workers, unsigned workers_min, unsigned most);
/* WINCH: no workers; the sockets stay open, and new clients wait in the kernel's queue. */
void scale_pause(struct scale *s);
/* Ends a pause: as many workers as before it. False: there was no pause. */
bool scale_resume(struct scale *s);
/* The settings of a new generation say these numbers: if `workers` is another one than before, it
 * is the limit from now on, whatever TTIN and TTOU had changed. A number that no setting can have
 * is ignored. */
void scale_configure(struct scale *s, unsigned workers, unsigned workers_min);
/* TTIN and TTOU: one more (`by` 1) or one less (-1). With workers-min they move the limit, and TTIN
 * starts a worker at once. Not in a pause. */
void scale_change(struct scale *s, int by);
/* Whether the load may change the number. */
bool scale_is_elastic(const struct scale *s);
/* The load asks for `by` more or less; what the limits allow of that is wanted. Not in a pause. */
void scale_follow(struct scale *s, int by);

#endif
