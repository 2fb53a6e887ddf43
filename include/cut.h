/* cut.h: requests that end with their worker, because it was killed, crashed or left them. */
#ifndef MYSERVER_CUT_H
#define MYSERVER_CUT_H

struct book;
struct slot;

/* The worker of `s` has ended: every request that it was still running gets its line in the access
 * log and is counted, unless the worker has done that. To be called before book_clear_slot. */
void cut_record(struct book *b, const struct slot *s);

#endif
