/* config_ini.h: the ini file as a list of names and values. */
#ifndef MYSERVER_CONFIG_INI_H
#define MYSERVER_CONFIG_INI_H

#include "base.h"

#include <stdbool.h>

#define CONFIG_INI_SECTION "[myserver]"

struct config_ini_line {
    char *name;  /* owned; as it was written */
    char *value; /* owned; variables expanded; may be taken (then set it to NULL) */
    unsigned number;
    bool has_hash; /* a # behind a blank, in the value as it was written */
};

struct config_ini {
    struct config_ini_line *lines; /* owned */
    size_t count;
};

/* Reads the whole file. Whatever is wrong with it as a file (not readable, another section, a
 * line that is no setting or too long, a variable that is not set): die(EXIT_CONFIG). Whether the
 * names exist and the values fit is the caller's. */
void config_ini_read(struct config_ini *ini, const char *path);
void config_ini_free(struct config_ini *ini);

#endif
