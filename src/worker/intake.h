/* intake.h: from a readable socket to a request that may run. All functions are called by the
 * leader. */
#ifndef MYSERVER_WORKER_INTAKE_H
#define MYSERVER_WORKER_INTAKE_H

#include "handler.h"

/* Takes the connection out of its queue, reads what has arrived and parses it. */
MUST_CHECK enum conn_step intake_read(struct conn *c);
/* Whether the next request of an idle connection, of which nothing was read, is one that needs a
 * thread, as far as the bytes tell that have come. Reads nothing. */
bool intake_needs_thread(struct conn *c);
/* Answers a request that was not accepted, whole or not, with an error page of the server, then
 * lets the connection linger. `reason` is static text for the logs. */
void intake_refuse(struct conn *c, unsigned status, const char *reason);
/* With every tick: what has come of a body is read if all of it has been awaited for long. */
void intake_end_wait(struct conn *c, uint64_t now);
/* Closes the pipe for large bodies, if it is open. The next large body opens it again. */
void intake_close_pipe(void);
/* Does the same, but only when no file of a body is open in this worker. */
void intake_shed_pipe(const struct conn_table *table);

#endif
