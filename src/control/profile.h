/* profile.h: what the samplers have seen, as JSON, for `myserver profile` and `myserver crash`. The
 * numbers of functions, frames, nodes and views are those of samples.h; who asks puts stacks
 * together.
 *
 *     GET  /profile                      the workers, and how they sample
 *     POST /profile?hz=N&ms=N            asks all of them for N samples a second, for so long
 *     GET  /samples?worker=N&...         one worker's; see profile.c
 *     GET  /crashes                      the workers that died and are kept
 *     GET  /crash?number=N               the last minutes of one of them */
#ifndef MYSERVER_CONTROL_PROFILE_H
#define MYSERVER_CONTROL_PROFILE_H

#include "base/base.h"
#include "base/buf.h"

#include <stdbool.h>

struct board;
struct request;

/* False: it is none of these paths. True: the answer is in `body` and *status; it is JSON, or one
 * line of text where *status is not 200. */
MUST_CHECK bool profile_answer(const struct board *board, const struct request *request,
                               struct buf *body, unsigned *status);

#endif
