/* origin.h: where the values in effect come from, for every sentence about one of them. */
#ifndef MYSERVER_CONFIG_ORIGIN_H
#define MYSERVER_CONFIG_ORIGIN_H

#include "base/base.h"

/* Forgets all origins: the settings are about to be read again. */
void config_origin_forget(void);
/* Notes that `value` of `option` (a name) comes from `place`: "shop.ini:3: bind",
 * "command line: --bind". Takes `value` and `place`. */
void config_origin_note(const char *option, char *value, char *place);
/* That place, valid until the settings are read again; `value` NULL for an option that is no list.
 * An option without a value, or that is no setting, is itself the place. */
const char *config_origin_place(const char *option, const char *value);
/* Ends the process with die(): "PLACE: <sentence>". */
NORETURN PRINTF_LIKE(4, 5) void config_origin_die(enum exit_status status, const char *option,
                                                  const char *value, const char *format, ...);

#endif
