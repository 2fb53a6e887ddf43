/* trial.h: generations: a new mold loads, is tried with its first worker, and succeeds or fails. */
#ifndef MYSERVER_MASTER_TRIAL_H
#define MYSERVER_MASTER_TRIAL_H

#include "base/base.h"

#include <stdbool.h>
#include <sys/types.h>

struct book;
struct mold;

/* The mold has loaded: orders go to it now. Where a failure must be undone, its trial begins. */
void trial_begin(struct book *b, struct mold *mold);
/* One of its workers serves: the trial, if there is one, is over. */
void trial_passed(struct book *b);
/* The mold, or the worker of the trial, has failed: back to the generation before; at the start,
 * the server stops with `status`. `why` completes "reload failed: ". */
void trial_failed(struct book *b, enum exit_status status, const char *why);
/* A mold has ended with `status` while it loaded; `was_late`: it was killed for that. */
void trial_load_failed(struct book *b, int status, bool was_late);
/* A worker of `generation` has ended with `status` before it had served for long. */
void trial_worker_failed(struct book *b, uint32_t generation, int status);
/* A pause is over, in which the time of a trial did not run. */
void trial_resume(struct book *b);

#endif
