/* privilege.h: whose rights the processes have: `user`, `group`, `umask`. */
#ifndef MYSERVER_PRIVILEGE_H
#define MYSERVER_PRIVILEGE_H

#include "base.h"
#include "logfile.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct config;
struct listeners;

struct privilege {
    bool changes; /* another user or group than that of the process is asked for */
    uid_t uid;
    gid_t gid;
    char user_name[LOGIN_NAME_MAX + 1]; /* for its supplementary groups; "": none */
};

/* Looks up `user` and `group`, names or numbers. Unknown ones, a number without a known group, and
 * others than our own without the right to become them: one sentence, exit status 2. */
void privilege_init(struct privilege *p, const struct config *c);
/* The unix sockets that were made before privilege_drop shall belong to that user. */
void privilege_give_sockets(const struct privilege *p, const struct listeners *all);
/* A log that was opened before, so that it can be opened again. */
void privilege_give_log(const struct privilege *p, enum logfile log, const char *name);
/* For this process and all that it forks, for good. Failure: one sentence, exit status 2. */
void privilege_drop(const struct privilege *p);

#endif
