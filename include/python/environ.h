/* environ.h: the environ dict of PEP 3333: a copy of a base dict per listener, with the keys of the
 * request added. GIL held for everything here. */
#ifndef MYSERVER_PYTHON_ENVIRON_H
#define MYSERVER_PYTHON_ENVIRON_H

#include "base/base.h"

#include <stdbool.h>

struct _object;
struct config;
struct request;
struct listeners;
struct trace;

/* What the connection knows about a request beyond its bytes. */
struct environ_facts {
    struct request *request; /* of its body, what the application has read is dropped */
    unsigned listener;       /* index of the listener it came in on */
    const char *client;      /* REMOTE_ADDR */
    unsigned client_port;
    const char *peer; /* address of the other end of the socket */
    bool https;       /* a trusted proxy says so */
    bool trusted;     /* the peer is a trusted proxy: X-Forwarded-* are passed on, else dropped */
    bool vouched; /* a trusted proxy has sent the request as a uwsgi packet: its variables count */
    const struct trace *trace; /* NULL: "myserver.traceparent" is not there */
    bool prewarm;              /* a request of the warm-up: "myserver.prewarm" is true */
};

/* Once per process, before environ_build. Borrows both for the life of the process. Returns 0,
 * or -1 with a Python exception set. */
MUST_CHECK int environ_init(const struct config *config, const struct listeners *listeners);
/* Puts `value` (borrowed) under `name` into every environ from now on. 0, or -1 with an exception
 * set. */
MUST_CHECK int environ_offer(const char *name, struct _object *value);
/* Takes `offer`, which is called with the environ of each request that asks for an upgrade. */
void environ_offer_upgrade(struct _object *offer);
/* Returns a new dict; `input` is borrowed. NULL with an exception set. */
MUST_CHECK struct _object *environ_build(const struct environ_facts *facts, struct _object *input);

#endif
