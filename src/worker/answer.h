/* answer.h: a thread's turn with a request: calls the application and sends its answer. */
#ifndef MYSERVER_ANSWER_H
#define MYSERVER_ANSWER_H

#include "worker/client.h"
#include "worker/conn.h"

struct pool_thread;

/* Runs the request of `c` and gives the connection back to the loop. On a pool thread that owns `c`
 * and does not lead; GIL not held before or after. */
void answer_run(struct conn *c, struct pool_thread *thread);
/* Ends a whole request that is not run: answers 503, because it has waited for too long, or nothing
 * when its client is gone. Returns what must be done with the connection. By its owner. */
enum conn_next answer_turn_away(struct conn *c, enum client_verdict verdict);

#endif
