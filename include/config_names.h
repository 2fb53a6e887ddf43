/* config_names.h: names that are not ours, for sentences about errors. */
#ifndef MYSERVER_CONFIG_NAMES_H
#define MYSERVER_CONFIG_NAMES_H

#include "base.h"

#include <stdbool.h>

/* Text from outside for a sentence: no control bytes, 120 bytes at most. Static storage: one
 * at a time. */
const char *config_names_quote(const char *text);
/* An enum config_action; CONFIG_ACTION_COUNT when there is none of that name. */
size_t config_names_action(const char *name);
/* Says what the unknown `name` is called here, why there is no such thing, or which name is
 * near. `place` is where it stands. */
NORETURN void config_names_die_unknown(const char *place, const char *name, bool on_command_line);
/* The same for a flag of one letter, on the command line. */
NORETURN void config_names_die_flag(char letter);

#endif
