/* names.h: option names of other servers, accepted where they are harmless, and misspelled ones. */
#ifndef MYSERVER_CONFIG_NAMES_H
#define MYSERVER_CONFIG_NAMES_H

#include "base/base.h"

#define CONFIG_VARIABLE_PREFIX "MYSERVER_"

struct option;

/* How a name is written where it was found: --keep-alive, keep-alive, MYSERVER_KEEP_ALIVE. */
enum name_style { NAME_ARGV, NAME_INI, NAME_VARIABLE };

enum name_value {
    NAME_UNKNOWN, /* no option that another server has and that is accepted */
    NAME_IS_FLAG, /* it stands alone on a command line; elsewhere it is true */
    NAME_HAS_VALUE,
};

/* What an option of another server takes that is accepted here. Names have '-', not '_'. */
enum name_value config_names_value(const char *name);
/* Takes such an option with its value (of a flag: "true"), and notes what becomes of it. Returns
 * the option here that gets the value; NULL: it has no effect. A value that means something else
 * there ends the process with one sentence. `place` says where it was found. */
const struct option *config_names_accept(const char *place, const char *name, const char *value,
                                         enum name_style style);
/* The name of a one-letter flag of another server; NULL: there is none, or two. The caller owns it.
 */
char *config_names_of_flag(char letter);
/* Ends the process with a sentence about the unknown `name`: what it is called here, why there is
 * no such option, or which name is similar. */
NORETURN void config_names_die_unknown(const char *place, const char *name, enum name_style style);

#endif
