/* intake.h: from a readable socket to a request that may run. Leader. */
#ifndef MYSERVER_INTAKE_H
#define MYSERVER_INTAKE_H

#include "conn.h"

enum conn_step {
    CONN_WAITS, /* for the client: nothing to do */
    CONN_GONE,  /* closed and freed */
    CONN_RUNS,  /* holds a whole request; its owner is now the thread that will answer_run it */
};

/* Takes the connection out of its queue, reads what came and parses it. */
MUST_CHECK enum conn_step intake_read(struct conn *c);
/* Answers what has been read of a request with an error page of ours, and lingers. `reason` is
 * static text for the logs. */
void intake_refuse(struct conn *c, unsigned status, const char *reason);
/* Closes the pipe for large bodies, if it is open; the next one opens it again. Leader. */
void intake_close_pipe(struct conn_shared *shared);
/* The same, when the last file of a body is closed. */
void intake_shed_pipe(struct conn_shared *shared);

#endif
