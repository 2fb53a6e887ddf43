/* inherit.h: listening sockets that this process was started with, by systemd or by the master that
 * it replaces. */
#ifndef MYSERVER_SYSTEM_INHERIT_H
#define MYSERVER_SYSTEM_INHERIT_H

#include "base/base.h"

#include <stdbool.h>

/* The `bind` of sockets that systemd passes; of those whose name (FileDescriptorName) is "uwsgi".
 */
#define INHERIT_SYSTEMD       "systemd"
#define INHERIT_SYSTEMD_UWSGI "systemd uwsgi"

/* Reads the sockets from the environment variables and unsets these. Once, before anything is
 * opened. */
void inherit_init(void);
/* Takes the next inherited socket whose `bind` is this text; -1: none. The caller owns it. `*made`:
 * this program or the master before it made the socket, so its file may be removed at the end. */
MUST_CHECK int inherit_take(const char *bind, bool *made);
/* Closes the sockets that nobody took, because the settings have changed. */
void inherit_close_rest(void);
/* Removes the files of unix sockets that nobody took, and forgets all sockets. Only when this
 * master takes over: until then the master before may go on with them. */
void inherit_remove_rest(void);
/* In a child that is about to execute the next master: passes the socket on to it. */
void inherit_pass_on(int fd, bool made, const char *bind);

#endif
