/* control.h: the process that answers questions about the server: health, metrics, statistics.
 * It reads the board and /proc, and holds no socket of the application's clients: it answers while
 * every worker is stuck or stopped, and whatever is sent to it cannot hurt the master. */
#ifndef MYSERVER_CONTROL_H
#define MYSERVER_CONTROL_H

#include "base.h"
#include "listen.h"

#include <signal.h>
#include <stdbool.h>

struct board;
struct config;

/* Its own listening sockets; owned by the master. */
struct control_sockets {
    struct listeners http;  /* `control`: HTTP */
    struct listeners stats; /* `stats`: connect and read */
};

/* It looks at the board again. */
#define CONTROL_WAKE_SIGNAL SIGUSR2

struct control_seed {
    const struct config *config;
    const struct board *board;
    struct listeners *listeners; /* of the application; closed, once it is known which they are */
    const struct control_sockets *sockets;
    int lifeline_fd; /* reads EOF when the master is gone */
};

/* Looks at the words only, as listen_check does. */
void control_check(const struct config *config);
/* Master, before the first fork; die(EXIT_CONFIG) on failure. */
void control_open(struct control_sockets *sockets, const struct config *config);
static inline bool control_is_wanted(const struct control_sockets *sockets)
{
    return sockets->http.count + sockets->stats.count > 0;
}
/* In a process just forked from the master, which has closed what is the master's only; never
 * returns. Ends with the master, not by a signal that reaches the whole group; after an upgrade
 * when those are answered whom it has taken. */
NORETURN void control_main(const struct control_seed *seed);

#endif
