/* docs.h: what the program says about its options: help and generated documents. */
#ifndef MYSERVER_CONFIG_DOCS_H
#define MYSERVER_CONFIG_DOCS_H

#include "base/base.h"

#include <stdbool.h>
#include <stdio.h>

/* --help: grouped by section, one line each. */
void config_docs_help(FILE *out);
/* A JSON schema of the ini file, for editors. */
void config_docs_schema(FILE *out);
/* --options=FORMAT: "md", "man", "ini", "json" or "schema". False: another format; nothing was
 * written. */
MUST_CHECK bool config_docs_write(const char *format, FILE *out);

#endif
