/* settings.h: the settings of the program. All of them come from one table, options.def: struct
 * members, defaults, parsing, ranges, command line, ini file, --help, --print-config, sample ini,
 * reference page, manual page.
 *
 * The master reads them before the first fork; every later mold reads them again, for itself. Never
 * written afterwards. */
#ifndef MYSERVER_CONFIG_SETTINGS_H
#define MYSERVER_CONFIG_SETTINGS_H

#include "base/base.h"

#include <stdbool.h>
#include <sys/types.h>

struct config_list {
    char **items; /* owned, `count` strings */
    size_t count;
};

/* The type of the struct member for each type name that a row may use. */
typedef bool config_BOOL;
typedef unsigned config_UINT;     /* plain count */
typedef uint64_t config_SIZE;     /* bytes; "64k", "1m", "2g" */
typedef uint64_t config_MEMORY;   /* bytes, or CONFIG_AUTO */
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

/* The value of a MEMORY that is "auto"; no text of a size means it. */
#define CONFIG_AUTO  (UINT64_MAX - 1)

struct config {
#define OPTION(field, name, type, ...) config_##type field;
#include "config/options.def"
#undef OPTION
    char *ini_path; /* owned, as given; NULL without an ini file */
};

#endif
