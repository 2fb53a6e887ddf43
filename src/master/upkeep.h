/* upkeep.h: files that trigger a reload when they are touched, looked at by the clock. */
#ifndef MYSERVER_MASTER_UPKEEP_H
#define MYSERVER_MASTER_UPKEEP_H

#include "base/base.h"

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

struct config;

#define UPKEEP_NEVER UINT64_MAX

/* A file as it was when it was looked at. */
struct upkeep_stamp {
    bool exists;
    ino_t inode;
    off_t bytes;
    struct timespec changed;
};

struct upkeep {
    uint64_t due_ms;             /* of the next look; UPKEEP_NEVER: there is nothing to look at */
    struct upkeep_stamp *stamps; /* [config->touch_reload.count]; owned */
};

/* Notes how the files are now. Relative paths are those of the current directory. */
void upkeep_init(struct upkeep *u, const struct config *c);
void upkeep_fini(struct upkeep *u);
/* Whether it is time to look, once a second while anything `is_needed`; sets the next time. */
bool upkeep_is_due(struct upkeep *u, bool is_needed);
/* Whether a file of touch-reload was touched. */
bool upkeep_sees_change(struct upkeep *u, const struct config *c);

#endif
