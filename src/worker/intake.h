/* intake.h: from a readable socket to a request that may run. All functions are called by the
 * leader. */
#ifndef MYSERVER_INTAKE_H
#define MYSERVER_INTAKE_H

#include "worker/conn.h"

enum conn_step {
    CONN_WAITS, /* nothing to do until the client sends more, or the loop has sent an error page */
    CONN_GONE,  /* closed and freed */
    CONN_RUNS,  /* has a whole request; the calling thread owns it and must run it or queue it */
};

/* Takes the connection out of its queue, reads what has arrived and parses it. */
MUST_CHECK enum conn_step intake_read(struct conn *c);
/* Answers a request that was not accepted, whole or not, with an error page of the server, then
 * lets the connection linger. `reason` is static text for the logs. */
void intake_refuse(struct conn *c, unsigned status, const char *reason);
/* Closes the pipe for large bodies, if it is open. The next large body opens it again. */
void intake_close_pipe(struct conn_shared *shared);
/* Does the same, but only when no file of a body is open in this worker. */
void intake_shed_pipe(struct conn_shared *shared);

#endif
