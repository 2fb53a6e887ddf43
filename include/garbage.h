/* garbage.h: cycles of objects are collected between requests. Layer 3; GIL held. */
#ifndef MYSERVER_GARBAGE_H
#define MYSERVER_GARBAGE_H

/* Once in a process that runs requests, when the application is loaded. Does nothing for an
 * application that has switched the collector off, or changed how often it runs. */
void garbage_init(void);

/* After a request: one collection of what is young, if it pays. */
void garbage_collect(void);

#endif
