/* sources.h: the files of the application that start a reload when they change (`reload`): .py,
 * templates, .env, translations below the working directory, pythonpath and reload-dir, and the ini
 * file. Runs in the master only. */
#ifndef MYSERVER_MASTER_SOURCES_H
#define MYSERVER_MASTER_SOURCES_H

#include "base/base.h"

#include <limits.h>
#include <stdbool.h>

struct config;

#define SOURCES_NEVER UINT64_MAX

struct sources {
    int fd;             /* of inotify, for poll(2); -1: the files are looked at by the clock */
    uint64_t due_ms;    /* of the next look; SOURCES_NEVER: none is due */
    uint64_t latest_ms; /* with inotify: no later than this, whatever else changes */
    uint64_t digest;    /* of all files at the last look */
    char *ini_path;     /* owned, absolute; NULL without an ini file */
    bool *of_templates; /* [watched]: by watch descriptor, whether it is a directory of templates */
    size_t watched;
    bool said_too_many;
    char changed[NAME_MAX + 1]; /* what changed first since the last look; "": not known */
};

/* Notes how the files are now, and begins to watch them; nothing without `reload`. Call it where
 * relative paths of the settings begin. */
void sources_init(struct sources *s, const struct config *c);
void sources_fini(struct sources *s);
/* Takes what inotify tells: sets when to look. */
void sources_hear(struct sources *s);
/* Whether a file is known to have changed, and the next look has not come yet. */
MUST_CHECK bool sources_have_news(const struct sources *s);
/* If it is time, looks at the files, and logs what has changed. */
MUST_CHECK bool sources_see_change(struct sources *s, const struct config *c);

#endif
