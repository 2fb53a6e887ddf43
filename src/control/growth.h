/* growth.h: the trace of a worker's memory, for `myserver memory --trace`.
 *
 *     POST /memory?seconds=N&worker=N&type=NAME&pages=1   begins one
 *     POST /memory?trace=N                                it is still wanted; every few seconds
 *     GET  /memory?trace=N                                how far it is, and its result
 *
 * Without `worker` it is of the one that has answered most requests. */
#ifndef MYSERVER_CONTROL_GROWTH_H
#define MYSERVER_CONTROL_GROWTH_H

#include "base/base.h"
#include "base/buf.h"

#include <stdbool.h>

struct board;
struct request;

/* Whether the request is for one of these. */
bool growth_is_asked(const struct request *request);
/* Returns the status. The body is JSON, or one line of text where that is not 200. */
unsigned growth_answer(const struct board *board, const struct request *request, bool is_post,
                       struct buf *body);

#endif
