/* client.h: whether there still is somebody to answer, and how long he has waited. */
#ifndef MYSERVER_CLIENT_H
#define MYSERVER_CLIENT_H

#include "base.h"

#include <stdbool.h>

struct conn;

enum client_verdict {
    CLIENT_WAITS,
    CLIENT_LATE, /* for longer than queue-timeout */
    CLIENT_GONE,
};

/* Looks at a whole request that a thread is about to run. By the owner of the connection. */
MUST_CHECK enum client_verdict client_judge(struct conn *c);
/* The client sends no more: he has closed, or has shut his sending side, which TCP tells apart
 * only when it is written to. By the owner of the connection. */
bool client_has_ended(const struct conn *c);
/* While his answer is being made: he has closed, as far as can be told. A TCP client who has shut
 * his sending side is taken for gone when five seconds have passed since his last bytes. By the
 * owner of the connection. */
bool client_is_gone(const struct conn *c);

#endif
