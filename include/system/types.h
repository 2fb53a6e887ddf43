/* types.h: media types by the endings of file names. */
#ifndef MYSERVER_SYSTEM_TYPES_H
#define MYSERVER_SYSTEM_TYPES_H

#include "base/base.h"

/* Reads the table of the system, /etc/mime.types. Once, before threads; what is not in it, or all
 * where it is missing, comes from a short table of our own. */
void types_load(void);
/* The media type of a file with this name, with its charset where it is text: Django's and all
 * bundlers' are UTF-8. "application/octet-stream" for what is not known. Static storage. */
const char *types_of(const char *path);

#endif
