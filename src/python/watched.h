/* watched.h: calls of the application that are accounted for. */
#ifndef MYSERVER_PYTHON_WATCHED_H
#define MYSERVER_PYTHON_WATCHED_H

struct _object;

/* Adds what myserver.views needs to the module _myserver. Returns 0, or -1 with an exception set.
 */
int watched_add(struct _object *module);

#endif
