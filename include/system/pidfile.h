/* pidfile.h: the file that says which process is the master. */
#ifndef MYSERVER_SYSTEM_PIDFILE_H
#define MYSERVER_SYSTEM_PIDFILE_H

#include "base/base.h"

#include <stdbool.h>
#include <sys/types.h>

/* `path` NULL: no pid file is wanted. */
struct pidfile {
    char *path; /* absolute; owned */
    int fd;     /* its lock lives as long as the master */
    bool locked, written;
};

/* Checks that pidfile_open could open `path` or create it, and creates nothing; `path` may be NULL.
 * Failure: one sentence, exit status 2. */
void pidfile_check(const char *path);
/* Opens or creates `path`, and empties it; `path` may be NULL. A link is refused, and a file that a
 * running master has locked, unless `upgrading`; any other file is stale and used again. Gives the
 * file to uid and gid. Failure: one sentence, exit status 2. */
void pidfile_open(struct pidfile *p, const char *path, bool upgrading, uid_t uid, gid_t gid);
/* Writes the pid of this process, once. After an upgrade the predecessor may hold the lock for a
 * moment, so this is to be called again and again: each call tries to get it. */
void pidfile_write(struct pidfile *p);
/* Removes the file, or empties it if it may not be removed. Does neither when another master has
 * written its pid into it. */
void pidfile_close(struct pidfile *p);

#endif
