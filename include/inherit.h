/* inherit.h: listening sockets that this process was started with: by systemd, or by the master
 * whose place it takes. */
#ifndef MYSERVER_INHERIT_H
#define MYSERVER_INHERIT_H

#include "base.h"

#include <stdbool.h>

/* What a socket is known by, when systemd made it. */
#define INHERIT_SYSTEMD "systemd"

/* Reads the environment and takes what it says out of it. Once, before anything is opened. */
void inherit_init(void);
/* The next socket that is known by `bind`, or -1. The caller owns it. `made` says that the program
 * has made it, not who started the program: its file may be removed in the end. */
MUST_CHECK int inherit_take(const char *bind, bool *made);
/* Closes what nobody took: the settings have changed. */
void inherit_close_rest(void);
/* Removes the files of unix sockets among that. Not before the predecessor has nothing to go on
 * for. */
void inherit_remove_rest(void);
/* In a child that is about to become the next master: leaves it the socket. */
void inherit_pass_on(int fd, bool made, const char *bind);

#endif
