/* ini.h: the ini file as a list of names and values. */
#ifndef MYSERVER_CONFIG_INI_H
#define MYSERVER_CONFIG_INI_H

#include "base/base.h"

#include <stdbool.h>

#define CONFIG_INI_SECTION "[myserver]"

struct config_ini_line {
    char *name;  /* owned; as it was written */
    char *value; /* owned; variables expanded; may be taken (then set it to NULL) */
    unsigned number;
    bool has_hash; /* the value, as written, has a # after a blank */
};

struct config_ini {
    struct config_ini_line *lines; /* owned */
    size_t count;
};

/* Reads the whole file. Anything wrong with the file itself ends the process with die(EXIT_CONFIG):
 * it is not readable, has another section, a line that is no setting or too long, or a variable
 * that is not set. Whether the names exist and the values fit, the caller checks. */
void config_ini_read(struct config_ini *ini, const char *path);
void config_ini_free(struct config_ini *ini);

#endif
