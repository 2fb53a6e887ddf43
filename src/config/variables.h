/* variables.h: settings in environment variables: MYSERVER_<OPTION>, and GUNICORN_CMD_ARGS. */
#ifndef MYSERVER_CONFIG_VARIABLES_H
#define MYSERVER_CONFIG_VARIABLES_H

#include "base/base.h"

#include <stdbool.h>

struct option;

#define CONFIG_VARIABLE_INI  "MYSERVER_CONFIG"   /* the path of the ini file */
#define CONFIG_VARIABLE_ARGV "GUNICORN_CMD_ARGS" /* options as on gunicorn's command line */

/* The value of the next variable MYSERVER_<OPTION>, and the option; `at` is 0 to begin with. NULL:
 * there is none any more. An empty variable counts as not set. One that names no option ends the
 * process with one sentence. */
const char *config_variables_next(size_t *at, const struct option **option);
/* The name of that variable; the caller owns it. */
char *config_variables_name(const struct option *option);
/* The words of `text` as a shell splits it: blanks, quotes, backslashes; nothing is expanded. Ends
 * with NULL; the caller owns the array and each word. NULL: a quote has no end. */
char **config_variables_words(const char *text);

#endif
