/* pidfile.h: the file that says which process is the master. */
#ifndef MYSERVER_PIDFILE_H
#define MYSERVER_PIDFILE_H

#include "base.h"

#include <stdbool.h>
#include <sys/types.h>

/* path NULL: there is none. */
struct pidfile {
    char *path; /* absolute; owned */
    int fd;     /* its lock lives as long as the master */
    bool locked, written;
};

/* Opens `path`, or makes it, empty; `path` may be NULL. A file that a running master holds is
 * refused, unless `upgrading`, and so is a link; any other is stale and used again. It shall belong
 * to uid and gid.
 * Failure: one sentence, exit status 2. */
void pidfile_open(struct pidfile *p, const char *path, bool upgrading, uid_t uid, gid_t gid);
/* Our pid is in it from now on. After an upgrade the lock may still be the other master's for a
 * moment: call it again and again. */
void pidfile_write(struct pidfile *p);
/* Removes the file, or empties it where we may not; not when another master has written into it. */
void pidfile_close(struct pidfile *p);

#endif
