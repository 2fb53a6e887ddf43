/* roots.h: the directories whose files are served (`static`), and which file a path names. No
 * connection, no loop. */
#ifndef MYSERVER_WORKER_ROOTS_H
#define MYSERVER_WORKER_ROOTS_H

#include "base/base.h"
#include "base/text.h"

#include <limits.h>
#include <stdbool.h>

struct config;

struct root {
    char *prefix; /* "/static", without a slash at its end; "" for all paths */
    char *dir;    /* absolute: the application may change its working directory */
};

/* Reads the setting. Once in a process, before threads; forks inherit it. */
void roots_load(const struct config *config);
/* Whether any directory is served. Any thread, as all below. */
bool roots_any(void);
/* Where the file of a decoded path lies: below the longest prefix that ends at a slash of the path.
 * NULL: below none. */
const struct root *roots_of(struct text path);
/* Writes the name of the file, relative to the directory. False: no file can have that path, since
 * it has an empty name, "." or "..", or a control byte in it, or is too long. */
MUST_CHECK bool roots_name(const struct root *root, struct text path, char name[PATH_MAX]);
/* Opens the directory itself, as it is now: a deploy may have put another one in its place. The
 * caller owns it; -1 with errno. */
MUST_CHECK int roots_open(const struct root *root);

#endif
