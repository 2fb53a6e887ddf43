/* upkeep.h: what the master looks at by the clock: files that trigger a reload, and how much
 * memory the workers have. */
#ifndef MYSERVER_UPKEEP_H
#define MYSERVER_UPKEEP_H

#include "base/base.h"

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

struct book;
struct config;

/* A file as it was when it was looked at. */
struct upkeep_stamp {
    bool exists;
    ino_t inode;
    off_t bytes;
    struct timespec changed;
};

struct upkeep {
    uint64_t due_ms;             /* of the next look; BOOK_NEVER when there is nothing to look at */
    unsigned looks;              /* so far */
    struct upkeep_stamp *stamps; /* [config->touch_reload.count]; owned */
    uint64_t sources;            /* digest of the .py files */
};

/* Notes how the files are now. Relative paths are those of the current directory. */
void upkeep_init(struct upkeep *u, const struct config *c);
void upkeep_fini(struct upkeep *u);
/* Looks, if a look is due; cheap when none is. */
void upkeep_look(struct book *b);

#endif
