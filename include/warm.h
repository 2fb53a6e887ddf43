/* warm.h: requests that the server makes to the application itself, before anybody serves: so that
 * what Django and the interpreter do at the first request is done once, in the mold, and shared.
 * Layer 3; GIL held for everything here. */
#ifndef MYSERVER_WARM_H
#define MYSERVER_WARM_H

#include "base.h"

struct config;

enum warm_result {
    WARM_OK,
    WARM_FAILED, /* logged: a path of `prewarm` raised or answered 5xx */
};

/* In the mold: requests every path of config->prewarm (or "/", if there is none and it answers
 * below 500) config->prewarm_rounds times, through the same environ, application and close() as
 * clients' requests. Call wsgi_init first. */
MUST_CHECK enum warm_result warm_mold(const struct config *config);
/* In a worker: one round, so that no user pays for the first page faults. Failures are no longer
 * news and not logged. */
void warm_worker(const struct config *config);

#endif
