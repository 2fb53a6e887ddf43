/* config.h: the settings of the program. All of them come from one table,
 * options.def: struct members, defaults, parsing, ranges, command line, ini file,
 * --help, --print-config, sample ini, reference page, manual page.
 *
 * Read before the first fork, never written afterwards. */
#ifndef MYSERVER_CONFIG_H
#define MYSERVER_CONFIG_H

#include "base.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

struct config_list {
    char **items; /* owned, `count` strings */
    size_t count;
};

/* The type of the struct member for each type name that a row may use. */
typedef bool config_BOOL;
typedef unsigned config_UINT;        /* plain count */
typedef uint64_t config_SIZE;        /* bytes; "64k", "1m", "2g" */
typedef uint64_t config_DURATION;    /* milliseconds; "30", "1.5", "500ms", "2m", "1h" */
typedef char *config_STRING;         /* owned; NULL when not set */
typedef struct config_list config_LIST;
typedef unsigned config_MODE;        /* octal */
typedef int config_LEVEL;            /* enum log_level by name */
typedef unsigned config_WORKERS;     /* a count, or "auto" (already resolved to a count) */

struct config {
#define OPTION(field, name, type, ...) config_##type field;
#include "options.def"
#undef OPTION
    char *app;        /* owned; "module", "module:callable" or a path to a .py file; NULL: none given */
    char *ini_path;   /* owned; NULL without an ini file */
};

/* What the command line asks for. */
enum config_verb {
    CONFIG_SERVE,
    CONFIG_CHECK,    /* --check-config: load the application too, then exit */
    CONFIG_PRINTED,  /* --help, --version, --print-config, --options=...: done, exit 0 */
};

/* Reads defaults, then the ini file (whole, or nothing of it), then argv; the
 * later wins. Any error: one sentence on stderr, exit status 2. `c` is then
 * complete and valid; the caller owns it. */
MUST_CHECK enum config_verb config_read(struct config *c, int argc, char **argv);
void config_free(struct config *c);

#endif
