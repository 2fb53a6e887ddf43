/* observe.h: which parts of the observation are on, for `myserver observe`.
 *
 *     GET  /observe                              what is on
 *     POST /observe?queries=off&sampler=on...    switches parts; `all` is every part
 *     POST /observe?queries=on&view=NAME         queries or the sampler of that view alone */
#ifndef MYSERVER_CONTROL_OBSERVE_H
#define MYSERVER_CONTROL_OBSERVE_H

#include "base/base.h"
#include "base/buf.h"

#include <stdbool.h>

struct board;
struct request;

/* Whether the request is for one of these. */
bool observe_is_asked(const struct request *request);
/* Returns the status. The body is JSON, or one line of text where that is not 200. */
unsigned observe_answer(const struct board *board, const struct request *request, bool is_post,
                        struct buf *body);
/* ,"off":[the names of the parts that were switched off] */
void observe_append_off(const struct board *board, struct buf *out);

#endif
