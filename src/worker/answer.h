/* answer.h: a request's turn: calls the application and sends its answer. */
#ifndef MYSERVER_WORKER_ANSWER_H
#define MYSERVER_WORKER_ANSWER_H

#include "client.h"
#include "conn.h"
#include "python/trash.h"
#include "turn.h"

/* Runs the request of `c` for the application and returns what must be done with the connection.
 * Drops what `trash` keeps, now that it has the GIL. By the thread that owns `c` and does not lead;
 * GIL not held before or after. */
MUST_CHECK enum conn_next answer_run(struct conn *c, struct turn *turn, struct trash *trash);
/* Calls close() of a response whose file the client has got; frees `unclosed`. As answer_run. */
void answer_close(struct wsgi_unclosed *unclosed, struct turn *turn, const struct serving *serving,
                  struct trash *trash);
/* Ends a whole request that is not run: answers 503, because it has waited for too long, or nothing
 * when its client is gone. Returns what must be done with the connection. By its owner. */
enum conn_next answer_turn_away(struct conn *c, enum client_verdict verdict);

#endif
