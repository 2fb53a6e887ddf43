/* garbage.h: cycles of objects are collected between requests. Layer 3; GIL held. */
#ifndef MYSERVER_GARBAGE_H
#define MYSERVER_GARBAGE_H

/* Once in a process that runs requests, when the application is loaded. */
void garbage_init(void);

/* After a request: one collection of what is young, if it pays and the application has not switched
 * the collector off. */
void garbage_collect(void);

#endif
