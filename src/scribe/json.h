/* json.h: whether a text is JSON. */
#ifndef MYSERVER_SCRIBE_JSON_H
#define MYSERVER_SCRIBE_JSON_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the text is one JSON object and nothing else (RFC 8259), nested at most 64 deep. */
bool json_is_object(const char *text, size_t len);

#endif
