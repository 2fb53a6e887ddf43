/* answer.h: a thread's turn with a request: calls the application and sends what it answers. */
#ifndef MYSERVER_ANSWER_H
#define MYSERVER_ANSWER_H

#include "conn.h"

struct pool_thread;

/* Runs the request and gives the connection back to the loop. On a pool thread that does not
 * lead and owns `c`; GIL not held before or after. */
void answer_run(struct conn *c, struct pool_thread *thread);

#endif
