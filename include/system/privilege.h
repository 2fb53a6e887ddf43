/* privilege.h: with whose rights the processes run: the options `user` and `group`. */
#ifndef MYSERVER_SYSTEM_PRIVILEGE_H
#define MYSERVER_SYSTEM_PRIVILEGE_H

#include "base/base.h"
#include "base/logfile.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct config;
struct listeners;

struct privilege {
    bool changes; /* user or group differ from those of the process */
    uid_t uid;
    gid_t gid;
    char user_name[LOGIN_NAME_MAX + 1]; /* for the supplementary groups; "": unknown */
};

/* Looks up the options `user` and `group`, names or numbers. Failure, which is an unknown name, a
 * number without a known group, or a change without root's rights: one sentence, exit status 2. */
void privilege_init(struct privilege *p, const struct config *c);
/* Gives the unix sockets that were made to that user. To be called before privilege_drop. */
void privilege_give_sockets(const struct privilege *p, const struct listeners *all);
/* Gives that user a log that is open, so that it can be opened again later. */
void privilege_give_log(const struct privilege *p, enum logfile log, const char *name);
/* Becomes that user, for this process and all that it forks, for good. Failure: one sentence, exit
 * status 2. */
void privilege_drop(const struct privilege *p);

#endif
