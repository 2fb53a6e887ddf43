/* config.h: the settings of the program. All of them come from one table, options.def: struct
 * members, defaults, parsing, ranges, command line, ini file, --help, --print-config, sample ini,
 * reference page, manual page.
 *
 * The master reads them before the first fork; every later mold reads them again, for itself. Never
 * written afterwards. */
#ifndef MYSERVER_CONFIG_H
#define MYSERVER_CONFIG_H

#include "base/base.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

struct config_list {
    char **items; /* owned, `count` strings */
    size_t count;
};

/* The type of the struct member for each type name that a row may use. */
typedef bool config_BOOL;
typedef unsigned config_UINT;     /* plain count */
typedef uint64_t config_SIZE;     /* bytes; "64k", "1m", "2g" */
typedef uint64_t config_DURATION; /* milliseconds; "30", "1.5", "500ms", "2m", "1h" */
typedef char *config_STRING;      /* owned; NULL when not set */
typedef char *config_PREFIX;      /* owned; "" or a path: starts with '/', does not end with it */
typedef struct config_list config_LIST;
typedef struct config_list config_PAIRS; /* each item is NAME=VALUE, each NAME once */
typedef unsigned config_MODE;            /* octal */
typedef int config_LEVEL;                /* enum log_level by name */
typedef unsigned config_PROXY;           /* bit N-1: version N of the PROXY protocol is accepted */
typedef unsigned config_WORKERS;         /* a count, or "auto" (already resolved to a count) */

/* The value of a UINT or MODE option that has no default and is not set. */
#define CONFIG_UNSET UINT32_MAX

struct config {
#define OPTION(field, name, type, ...) config_##type field;
#include "config/options.def"
#undef OPTION
    char *ini_path; /* owned, as given; NULL without an ini file */
};

/* What the command line asks for. */
enum config_verb {
    CONFIG_SERVE,
    CONFIG_CHECK,   /* --check-config: rehearse the start, then exit */
    CONFIG_PRINTED, /* --help, --version, --print-config, --options=...: done, exit 0 */
};

/* Options that exist only on the command line and are no settings. */
enum config_action {
    CONFIG_ACTION_CONFIG,
    CONFIG_ACTION_CHECK,
    CONFIG_ACTION_PRINT,
    CONFIG_ACTION_OPTIONS,
    CONFIG_ACTION_MEMORY,
    CONFIG_ACTION_VERSION,
    CONFIG_ACTION_HELP,
    CONFIG_ACTION_COUNT,
};

struct config_action_row {
    const char *name;
    char short_flag;     /* 0: none */
    const char *metavar; /* NULL: takes no value */
    const char *help;
};

extern const struct config_action_row config_actions[CONFIG_ACTION_COUNT];

/* Reads defaults (some come from environment variables), then the ini file (all of it or nothing),
 * then argv; a later value replaces an earlier one. Any error: one sentence on stderr, exit status
 * 2. Afterwards `c` is complete and valid (except for CONFIG_PRINTED); the caller owns it. */
MUST_CHECK enum config_verb config_read(struct config *c, int argc, char **argv);
/* The number at `index` (from 0) of "N[,N...]"; 0 when there are fewer, or `counts` is NULL. */
unsigned config_count_at(const char *counts, unsigned index);
/* Frees what `c` owns, not `c` itself. */
void config_free(struct config *c);

#endif
