/* file.h: wsgi.file_wrapper (PEP 3333, "Optional Platform-Specific File Handling").
 * GIL held for everything here. */
#ifndef MYSERVER_PYTHON_FILE_H
#define MYSERVER_PYTHON_FILE_H

#include "base/base.h"

#include <stdbool.h>

struct _object;

/* Readies the type. Returns 0, or -1 with an exception set. */
MUST_CHECK int wsgi_file_init(void);
/* The type object, for environ. Borrowed. */
struct _object *wsgi_file_type(void);
/* Whether `result` is a wrapper (exactly of this type) around a regular file that sendfile(2)
 * can send. If so, *fd is a new descriptor that the caller owns, *offset the position of the file
 * object (not of the descriptor: buffered readers are ahead), *bytes how many follow it. */
MUST_CHECK bool wsgi_file_take(struct _object *result, int *fd, uint64_t *offset, uint64_t *bytes);

#endif
