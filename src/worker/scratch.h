/* scratch.h: where a worker keeps what is too large for its memory: bodies of requests, and answers
 * to slow clients. Any process; written once, before it serves. */
#ifndef MYSERVER_WORKER_SCRATCH_H
#define MYSERVER_WORKER_SCRATCH_H

#include "base/base.h"

struct config;
struct worker_seed;

struct scratch {
    const char *dir;       /* NULL: no directory can be written to, the files are in memory */
    uint64_t memory_bytes; /* that all bodies of one worker may have then */
};

/* Chooses the place: the setting, or the first usual directory in which a file can be made. In the
 * process that loads the application, with the rights that workers have. */
void scratch_find(const struct config *config);
const struct scratch *scratch_place(void);
/* What all answers of one worker may have there. */
uint64_t scratch_answers_bytes(const struct config *config);
/* Says in the log that the place is memory; the first worker of a generation does. */
void scratch_say(const struct worker_seed *seed);

#endif
