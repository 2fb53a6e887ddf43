/* config_check.h: values that fit their type and are still a mistake. */
#ifndef MYSERVER_CONFIG_CHECK_H
#define MYSERVER_CONFIG_CHECK_H

#include "config/options.h"

#include <stdbool.h>

/* Checks `text`, which options_set has accepted. NULL, or a sentence that says what is wrong and
 * what would be right, which the caller owns. */
char *config_check_value(const struct option *option, const char *text);
/* Whether " #" may be part of the option's value in the ini file. Elsewhere the user meant a
 * comment, which it is not. */
bool config_check_may_have_hash(const struct option *option);

#endif
