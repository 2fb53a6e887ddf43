/* garbage.h: collects reference cycles between requests. GIL held. */
#ifndef MYSERVER_PYTHON_HEAP_GARBAGE_H
#define MYSERVER_PYTHON_HEAP_GARBAGE_H

/* Once in each process that runs requests, after the application is loaded. */
void garbage_init(void);

/* After each request: runs one collection of the young generations, if enough objects are new and
 * the application has not disabled the collector. */
void garbage_collect(void);

#endif
