/* warm.h: the requests of `prewarm`, which the server makes to the application before it serves
 * clients, so that what Django and the interpreter do at the first request is done once, in the
 * mold, and shared. Without `prewarm` no request is made.
 * GIL held for everything here. */
#ifndef MYSERVER_MOLD_WARM_H
#define MYSERVER_MOLD_WARM_H

#include "base/base.h"

struct config;

enum warm_result {
    WARM_OK,
    WARM_FAILED, /* logged: a path of `prewarm` raised or answered 5xx */
};

/* In the process that has loaded the application: requests every path of config->prewarm
 * config->prewarm_rounds times, through the same environ, application and close() as clients'
 * requests, and follows redirects to the same host. Call wsgi_init first. */
MUST_CHECK enum warm_result warm_mold(const struct config *config);
/* In a worker: one round, so that no user's request waits for the first page faults. The answers'
 * status is ignored; wsgi.c logs exceptions, as always. */
void warm_worker(const struct config *config);

#endif
