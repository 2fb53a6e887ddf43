/* gil.h: how long threads wait for the interpreter. */
#ifndef MYSERVER_GIL_H
#define MYSERVER_GIL_H

#include "base.h"

/* What the calling thread has waited for the GIL in its life, in nanoseconds. Exact; 0 for ever
 * under ThreadSanitizer and where libpython is linked statically. */
uint64_t gil_waited_ns(void);

#endif
