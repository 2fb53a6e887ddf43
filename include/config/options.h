/* options.h: the table of options as data, and the types of their values: text to member of
 * struct config and back. Does not know where a value comes from; read.h does. */
#ifndef MYSERVER_CONFIG_OPTIONS_H
#define MYSERVER_CONFIG_OPTIONS_H

#include "base/base.h"

#include <stdbool.h>

struct config;

enum option_type {
    OPTION_BOOL,     /* true, false; --name and --no-name */
    OPTION_UINT,     /* plain count */
    OPTION_SIZE,     /* bytes; k, m, g are powers of 1024 */
    OPTION_MEMORY,   /* a size, or auto */
    OPTION_DURATION, /* ms, s (also without unit), m, h; fractions */
    OPTION_MODE,     /* octal */
    OPTION_LEVEL,    /* enum log_level by name */
    OPTION_PROXY,    /* off, v1, v2 or auto */
    OPTION_WORKERS,  /* a count, or auto */
    OPTION_STRING,   /* min and max are bytes; empty is NULL where the default is NULL */
    OPTION_PREFIX,   /* a text that is empty or the beginning of a path */
    OPTION_LIST,     /* texts; repeated, each adds one */
    OPTION_PAIRS,    /* a list of NAME=VALUE */
};

enum option_when {
    OPTION_RELOAD,  /* a new generation of workers can have another value */
    OPTION_RESTART, /* only a new master can */
};

struct option {
    const char *field; /* member of struct config, `offset` bytes into it */
    size_t offset;
    const char *name; /* of the command line and the ini file, with '-' */
    enum option_type type;
    const char *section;
    char short_flag;          /* 0: none */
    const char *default_text; /* NULL: not set */
    uint64_t min, max;
    enum option_when when;
    const char *metavar;
    const char *help; /* one sentence */
};

/* Where the row of a member stands in options_table. */
enum {
#define OPTION(field, ...) OPTION_INDEX_##field,
#include "config/options.def"
#undef OPTION
    OPTION_COUNT
};

extern const struct option options_table[OPTION_COUNT];

/* Options that exist only on the command line and are no settings. */
enum action {
    ACTION_CONFIG,
    ACTION_CHECK,
    ACTION_PRINT,
    ACTION_OPTIONS,
    ACTION_MEMORY,
    ACTION_HEALTH,
    ACTION_VERSION,
    ACTION_HELP,
    ACTION_COUNT,
};

struct action_row {
    const char *name;
    char short_flag;     /* 0: none */
    const char *metavar; /* NULL: takes no value */
    const char *help;
};

extern const struct action_row actions_table[ACTION_COUNT];

/* `myserver NAME ...`, where NAME is the first argument: myserver.commands.NAME in Python. */
struct command_row {
    const char *name; /* NULL ends the table */
    const char *arguments;
    const char *help;
};

extern const struct command_row commands_table[];

/* A copy of the name in its only spelling: `_` is `-`. The caller owns it. */
char *options_spell(const char *name, size_t len);
/* The enum action of that name; ACTION_COUNT: there is none. */
size_t options_find_action(const char *name);
/* NULL when there is none of that name. */
const struct option *options_find(const char *name);
/* The BOOL whose name follows "no-" in `name`; NULL when there is none. */
const struct option *options_find_negated(const char *name);
bool options_is_list(const struct option *option);
/* What a valid value is, to follow "write ". The caller owns the text. */
char *options_rule(const struct option *option);

/* Sets the member from `text`; lists grow by one. Returns NULL, or with nothing changed what is
 * wrong ("is not a whole number"); the caller owns that text. */
MUST_CHECK char *options_set(struct config *c, const struct option *option, const char *text);
/* Frees what the member owns. It is then NULL, an empty list, or 0 (CONFIG_UNSET without a
 * default). */
void options_clear(struct config *c, const struct option *option);
/* How many texts the value has: 0 when it is not set, else 1, or for a list the number of items. */
size_t options_item_count(const struct config *c, const struct option *option);
/* The text that options_set would read as item `index`. The caller owns it. */
char *options_item(const struct config *c, const struct option *option, size_t index);
/* The number at `index` (from 0) of "N[,N...]"; 0 when there are fewer, or `counts` is NULL. */
unsigned options_count_at(const char *counts, unsigned index);
/* Frees what `c` owns, not `c` itself. */
void options_free(struct config *c);

#endif
