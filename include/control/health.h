/* health.h: `myserver --health`: asks a running server whether it is ready, as its client. */
#ifndef MYSERVER_CONTROL_HEALTH_H
#define MYSERVER_CONTROL_HEALTH_H

#include "base/base.h"

#include <stdio.h>

struct config;

/* Asks the address of the setting `control` for /readyz, and writes one line that says the answer,
 * or why there is none. Returns EXIT_OK if the server is ready, else EXIT_CRASH; after three
 * seconds at most. die(EXIT_CONFIG) when no address is set, or it cannot be one of a server. */
MUST_CHECK enum exit_status health_ask(const struct config *config, FILE *out);

#endif
