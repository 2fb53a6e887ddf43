/* hints.h: what the processes of a generation know of its application, and advice needs. A part of
 * the board, as the ledger is, and used like it: any process, no waiting, each word on its own. */
#ifndef MYSERVER_SHARED_HINTS_H
#define MYSERVER_SHARED_HINTS_H

#include "base/base.h"

#include <stdatomic.h>
#include <stdbool.h>

#define HINTS_DATABASES  8
#define HINTS_ALIAS_MAX  24
#define HINTS_THREAD_MAX 200
#define HINTS_PAGES      32
#define HINTS_PATH_MAX   128 /* without the query */

/* A database of Django's settings. What is no word is written before it is counted. */
struct hints_database {
    char alias[HINTS_ALIAS_MAX];
    uint64_t server;   /* the same for all that are on one server */
    bool is_network;   /* it is a server, not a file */
    bool keeps;        /* connections stay open behind a request: CONN_MAX_AGE is not 0 */
    uint32_t pool_max; /* connections that a process has in a pool; 0: each thread has one */
    /* What the server allows the application: asked once, by the worker that connects first. 0: not
     * known. */
    _Atomic bool is_asked;
    _Atomic uint32_t allowed;
    /* By requests: connections that were opened and how long that took, that failed, and of these
     * those that the server refused because it has too many. */
    _Atomic uint64_t opened, opening_ns, failed, refused;
};

/* What the first request of a view in a worker took that the second did not: added up over
 * `workers` of them. The path is that of the first one. */
struct hints_page {
    _Atomic uint32_t view; /* from ledger_view, + 1; 0: free */
    _Atomic bool is_whole; /* the next two are written */
    bool has_login;        /* it has a cookie, or an authorization */
    char path[HINTS_PATH_MAX];
    _Atomic uint32_t workers;
    _Atomic uint64_t bytes, us; /* memory of the worker's own; time in its thread */
};

struct hints {
    _Atomic uint64_t began_ns; /* when its mold began to load (now_ns); a refork keeps it */
    _Atomic bool debugs;       /* Django's DEBUG is on */
    _Atomic uint32_t database_count;
    struct hints_database databases[HINTS_DATABASES];
    /* Threads that the application has started before the fork, and that workers do not have; a
     * text about one of them. */
    _Atomic uint32_t lost_threads;
    char lost_thread[HINTS_THREAD_MAX];
    struct hints_page pages[HINTS_PAGES];
};

#endif
