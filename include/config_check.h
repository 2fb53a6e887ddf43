/* config_check.h: values that fit their type and are a mistake all the same. */
#ifndef MYSERVER_CONFIG_CHECK_H
#define MYSERVER_CONFIG_CHECK_H

#include "options.h"

#include <stdbool.h>

/* NULL, or what is wrong with `text`, which options_set has taken, and what would be right;
 * the caller owns that text. */
char *config_check_value(const struct option *option, const char *text);
/* Whether " #" may stand in a line of the ini file: in others it is a comment that is none. */
bool config_check_may_have_hash(const struct option *option);

#endif
