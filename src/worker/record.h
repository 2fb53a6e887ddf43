/* record.h: the one place where a request ends: it is counted, and has its line in the access log.
 * Any thread that owns the request. */
#ifndef MYSERVER_WORKER_RECORD_H
#define MYSERVER_WORKER_RECORD_H

#include "exchange.h"
#include "serving.h"

/* The request of `e`, which came from `peer`, was answered with `response`. NULL: its client was
 * gone. `end`: why it ended badly, static text; NULL: it did not. */
void record_request(const struct serving *serving, const struct exchange *e, const char *peer,
                    const struct response *response, const char *end);
/* Its answer has ended, however: counts the bytes, and records the request unless that was done.
 * `by_loop`: the loop has sent the rest, after the thread was done. */
void record_answer(const struct serving *serving, const struct exchange *e, const char *peer,
                   bool by_loop);

#endif
