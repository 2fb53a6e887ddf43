/* spell.h: values as other servers write them. */
#ifndef MYSERVER_CONFIG_SPELL_H
#define MYSERVER_CONFIG_SPELL_H

#include "base/base.h"

struct option;

/* What `value` of `option` is here when another server writes it in another way; NULL: as it is.
 * The caller owns the text. */
char *config_spell_value(const struct option *option, const char *value);

#endif
