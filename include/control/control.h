/* control.h: the process that answers questions about the server: health, metrics, statistics. It
 * reads the board and /proc, and has no socket of the application's clients: it answers even while
 * every worker is stuck or stopped, and nothing that is sent to it can hurt the master. */
#ifndef MYSERVER_CONTROL_CONTROL_H
#define MYSERVER_CONTROL_CONTROL_H

#include "base/base.h"
#include "system/listen.h"

#include <signal.h>
#include <stdbool.h>

struct board;
struct config;

/* The listening sockets of the control process; owned by the master. */
struct control_sockets {
    struct listeners http;  /* `control`: HTTP */
    struct listeners stats; /* `stats`: connect and read */
    bool pushes;            /* `statsd` */
};

/* Makes the control process look at the board again. */
#define CONTROL_WAKE_SIGNAL SIGUSR2

struct control_seed {
    const struct config *config;
    const struct board *board;
    /* of the application; closed after their names and inodes are noted */
    struct listeners *listeners;
    const struct control_sockets *sockets;
    int lifeline_fd; /* reads EOF when the master is gone */
};

/* Checks the settings `control`, `stats` and `statsd`, as listen_check does, and opens nothing. */
void control_check(const struct config *config);
/* Opens the sockets. In the master, before the first fork; die(EXIT_CONFIG) on failure. */
void control_open(struct control_sockets *sockets, const struct config *config);
static inline bool control_is_wanted(const struct control_sockets *sockets)
{
    return sockets->http.count + sockets->stats.count > 0 || sockets->pushes;
}
/* Runs the control process, just forked from the master, after closing what only the master may
 * have; never returns. It ends with the master, not by a signal sent to the whole process group;
 * after an upgrade it ends when the clients it has accepted are answered. */
NORETURN void control_main(const struct control_seed *seed);

#endif
