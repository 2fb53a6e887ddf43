/* read.h: where the settings come from. */
#ifndef MYSERVER_CONFIG_READ_H
#define MYSERVER_CONFIG_READ_H

#include "config/argv.h"
#include "config/settings.h"

/* Reads defaults (some come from environment variables such as PORT), then the ini file (all of it
 * or nothing), GUNICORN_CMD_ARGS, the variables MYSERVER_<OPTION>, and argv; a later value replaces
 * an earlier one. What the log should say about them is in notes.h afterwards. Any error: one
 * sentence on stderr, exit status
 * 2. Afterwards `c` is complete and valid; the caller owns it (options_free). With COMMAND_DONE and
 * COMMAND_REPORT it has the defaults only. Of the command, only verb and pid are valid then. */
struct command config_read(struct config *c, int argc, char **argv);
/* Changes to the directory of the option `chdir`, if it is set. Failure: one sentence, exit status
 * 2. */
void config_enter(const struct config *c);

#endif
