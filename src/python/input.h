/* input.h: the wsgi.input object over a body. GIL held for everything here. */
#ifndef MYSERVER_PYTHON_INPUT_H
#define MYSERVER_PYTHON_INPUT_H

#include "base/base.h"

struct _object;
struct body;

/* Readies the type. Returns 0, or -1 with an exception set. */
MUST_CHECK int wsgi_input_init(void);
/* Returns a new reference to an input that reads `body` (borrowed until detached) and drops what
 * was read; NULL with an exception set. */
MUST_CHECK struct _object *wsgi_input_new(struct body *body);
/* The body is about to go: later reads of `input` raise ValueError. */
void wsgi_input_detach(struct _object *input);

#endif
