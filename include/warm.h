/* warm.h: requests that the server makes to the application before it serves clients, so that what
 * Django and the interpreter do at the first request is done once, in the mold, and shared.
 * Layer 3; GIL held for everything here. */
#ifndef MYSERVER_WARM_H
#define MYSERVER_WARM_H

#include "base/base.h"

struct config;

enum warm_result {
    WARM_OK,
    WARM_FAILED, /* logged: a path of `prewarm`, or "/" if it must work, raised or answered 5xx */
};

/* In the mold: requests every path of config->prewarm config->prewarm_rounds times, through the
 * same environ, application and close() as clients' requests. Without any path it takes "/", if one
 * request for it in a process of its own is answered below 500 within 5 s and leaves no connection
 * open; its rounds end after 2 s. Call wsgi_init first.
 *
 * `root`: an enum board_root, what is known of "/"; read, and set to what was found. NULL: not
 * needed. */
MUST_CHECK enum warm_result warm_mold(const struct config *config, _Atomic uint32_t *root);
/* In a worker: one round, so that no user's request waits for the first page faults. The answers'
 * status is ignored; wsgi.c logs exceptions, as always. */
void warm_worker(const struct config *config);

#endif
