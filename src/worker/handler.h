/* handler.h: what answers a request: files, the application, or the server itself. The intake asks
 * them in that order (intake.c). */
#ifndef MYSERVER_WORKER_HANDLER_H
#define MYSERVER_WORKER_HANDLER_H

#include "base/text.h"
#include "conn.h"

enum conn_step {
    CONN_WAITS,    /* nothing to do until the client sends more, or has taken an error page */
    CONN_GONE,     /* closed and freed */
    CONN_ANSWERED, /* answered without a thread: not the caller's any more, perhaps freed */
    CONN_RUNS,     /* has a whole request; the calling thread owns it and must run it or queue it */
};

struct handler {
    bool needs_thread; /* start returns CONN_RUNS */
    /* Whether requests of this method for this path, decoded, are for it. */
    bool (*takes)(const struct serving *serving, struct text method, struct text path);
    /* Answers the whole request of `c`, or lets a thread do so. Leader. */
    enum conn_step (*start)(struct conn *c, struct text path);
};

#endif
