/* argv.h: the command line: what the program is to do, and the settings that it gives. */
#ifndef MYSERVER_CONFIG_ARGV_H
#define MYSERVER_CONFIG_ARGV_H

#include "base/base.h"
#include "config/options.h"

enum command_verb {
    COMMAND_SERVE,
    COMMAND_CHECK,  /* --check-config: rehearse the start */
    COMMAND_PRINT,  /* --print-config */
    COMMAND_PYTHON, /* a row of commands_table, which gets all arguments */
    COMMAND_REPORT, /* --memory-report: of the server whose master is `pid` */
    COMMAND_HEALTH, /* --health: ask the server that has these settings */
    COMMAND_DONE,   /* all that was asked for is printed */
};

struct argument {
    const struct option *option;
    char *value; /* owned */
};

struct command {
    enum command_verb verb;
    const char *pid;            /* borrowed from argv; NULL except for COMMAND_REPORT */
    char *ini_path;             /* owned, as given; NULL: none */
    struct argument *arguments; /* owned, `count` in the order in which they were given */
    size_t count;
};

/* Reads `argv`, without the program's name, up to its NULL. What it cannot understand ends the
 * process with one sentence and status 2. Values are not looked at. */
void argv_read(struct command *command, char **argv);
/* The same for words from elsewhere; `place` says from where. There, of what is no setting, only
 * the ini file may be named. */
void argv_read_words(struct command *command, char **words, const char *place);
/* Frees what `command` owns. */
void argv_free(struct command *command);

#endif
