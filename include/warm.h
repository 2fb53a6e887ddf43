/* warm.h: requests that the server makes to the application itself, before anybody serves: so that
 * what Django and the interpreter do at the first request is done once, in the mold, and shared.
 * Layer 3; GIL held for everything here. */
#ifndef MYSERVER_WARM_H
#define MYSERVER_WARM_H

#include "base.h"

struct config;

enum warm_result {
    WARM_OK,
    WARM_FAILED, /* logged: a path of `prewarm`, or "/" if it must work, raised or answered 5xx */
};

/* In the mold: requests every path of config->prewarm config->prewarm_rounds times, through the
 * same environ, application and close() as clients' requests. Without any path "/", if one request
 * of it in a process of its own answers below 500 within 5 s; its rounds end after 2 s. Call
 * wsgi_init first.
 *
 * `root`: an enum board_root, what is known of "/"; it is read, and what was found is written.
 * NULL: nobody wants to know. */
MUST_CHECK enum warm_result warm_mold(const struct config *config, _Atomic uint32_t *root);
/* In a worker: one round, so that no user pays for the first page faults. Failures are no longer
 * news and not logged. */
void warm_worker(const struct config *config);

#endif
