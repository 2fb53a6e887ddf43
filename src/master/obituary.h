/* obituary.h: requests that end with their worker, because it was killed, crashed or left them. */
#ifndef MYSERVER_MASTER_OBITUARY_H
#define MYSERVER_MASTER_OBITUARY_H

#include "base/base.h"
#include "base/log.h"

struct book;
struct slot;

/* The worker of `s` has ended: every request that it was still running gets its line in the access
 * log and is counted, unless the worker has done that. To be called before book_clear_slot. */
void obituary_write(struct book *b, const struct slot *s);
/* Logs one record: what happened to the worker, and the requests it was running; if there are any,
 * it is a warning at least. */
PRINTF_LIKE(4, 5)
void obituary_log(struct book *b, const struct slot *s, enum log_level level, const char *format,
                  ...);

#endif
