/* config_names.h: option names of other servers and misspelled ones, for sentences about errors. */
#ifndef MYSERVER_CONFIG_NAMES_H
#define MYSERVER_CONFIG_NAMES_H

#include "base/base.h"

#include <stdbool.h>

/* Makes text from outside fit for a sentence: no control bytes, 120 bytes at most. Returns static
 * storage, valid until the next call. */
const char *config_names_quote(const char *text);
/* The enum config_action of that name; CONFIG_ACTION_COUNT: there is none. */
size_t config_names_action(const char *name);
/* Ends the process with a sentence about the unknown `name`: what it is called here, why there is
 * no such option, or which name is similar. `place` says where it was found. */
NORETURN void config_names_die_unknown(const char *place, const char *name, bool on_command_line);
/* The same for an unknown one-letter flag on the command line. */
NORETURN void config_names_die_flag(char letter);

#endif
