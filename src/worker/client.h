/* client.h: whether a client still waits for its answer, and for how long it has waited. */
#ifndef MYSERVER_WORKER_CLIENT_H
#define MYSERVER_WORKER_CLIENT_H

#include "base/base.h"

#include <stdbool.h>

struct conn;

enum client_verdict {
    CLIENT_WAITS,
    CLIENT_LATE, /* has waited for longer than queue-timeout */
    CLIENT_GONE,
};

/* Counts the time in which a whole request has waited, parked, as part of its duration. By the
 * owner of the connection. */
void client_note_wait(struct conn *c);
/* Judges a whole request that a thread is about to run, and counts the time that it has waited as
 * part of its duration. By the owner of the connection. */
MUST_CHECK enum client_verdict client_judge(struct conn *c);
/* Whether the client sends no more: it has closed, or shut only its sending side. TCP tells the two
 * apart only when something is sent. By the owner of the connection. */
bool client_has_ended(const struct conn *c);
/* Whether the client has closed, as far as can be told while its answer is being made. A TCP client
 * that has shut its sending side counts as gone five seconds after its last bytes. By the owner of
 * the connection. */
bool client_is_gone(const struct conn *c);

#endif
