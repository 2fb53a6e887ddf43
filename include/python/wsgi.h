/* wsgi.h: one call of the application: start, next, finish (PEP 3333). The connection asks for
 * each piece of the body; only what the application gives to write() comes by itself, through
 * struct wsgi_client.
 *
 * GIL held for everything here, on the thread that runs the request. No Python
 * exception leaves: it is logged here, once. */
#ifndef MYSERVER_PYTHON_WSGI_H
#define MYSERVER_PYTHON_WSGI_H

#include "base/base.h"
#include "base/text.h"
#include "python/environ.h"

#include <stdbool.h>
#include <sys/types.h>

struct _object;
struct config;
struct listeners;
struct response;

enum wsgi_result {
    WSGI_CHUNK,  /* `data`, `len` hold the next piece, valid until the next call */
    WSGI_EMPTY,  /* the next piece has no bytes: nothing to send */
    WSGI_FILE,   /* (from wsgi_start only) the whole body is `file` */
    WSGI_END,    /* the body is whole */
    WSGI_FAILED, /* logged; the caller answers 500 if nothing was sent, else aborts */
};

/* What the application may want of its connection while it runs. */
struct wsgi_client {
    /* Sends the bytes of write(). Returns false when the client has gone; the application is not
     * told, as PEP 3333 defines no way. */
    bool (*send)(void *context, const char *data, size_t len);
    /* myserver.set_timeout: the request may run for this long from now; 0: for ever. NULL where
     * nothing limits it. */
    void (*set_limit)(void *context, uint64_t limit_ns);
    /* myserver.client_disconnected. NULL where there is no client. */
    bool (*has_ended)(void *context);
    /* myserver.socket: from now on nothing is sent and nothing read but by the application. Returns
     * a copy of the descriptor, which the caller owns, and in `*ahead` what the client has sent
     * behind the head of its request, valid until the request ends; or -1 and a sentence. NULL
     * where there is no client. */
    int (*take)(void *context, struct text *ahead, const char **why);
    void *context;
};

struct wsgi_file {
    int fd; /* the caller that got WSGI_FILE owns it */
    uint64_t offset, bytes;
};

/* A response whose close() is to be called when its client has got it all. */
struct wsgi_unclosed {
    struct _object *result; /* owned */
    /* To be filled by whoever has it. */
    struct wsgi_unclosed *next;
    unsigned seat;              /* which one ran the request */
    char method[16], path[256]; /* of the request, for the logs: cut, not escaped */
};

/* Embedded in whatever holds a request; zeroed at first, reused for the next. */
struct wsgi_call {
    /* The current piece of the body. */
    const char *data;
    size_t len;
    struct wsgi_file file;
    int64_t known_bytes; /* length of the whole body when the result tells it, else -1 */
    bool head_sent;      /* set by the connection when it begins to send the head */
    bool taken;          /* the application has the socket: what it returns is not sent */
    unsigned exceptions; /* uncaught ones of this call */

    /* Private to wsgi.c. The references are owned. */
    bool ended;                /* start_response and write() raise */
    bool was_called;           /* start_response was, though it may have raised */
    struct response *response; /* borrowed */
    const struct environ_facts *facts;
    struct wsgi_client client;
    unsigned long thread; /* Python's identifier of the thread that runs the request */
    struct _object *environ, *input, *result, *iterator, *chunk;
    struct _object *start_response, *writer; /* kept for the next call */
    ssize_t index;                           /* next item of a list or tuple */
};

/* Once per process, after the application is loaded; borrows all. Returns 0, or -1 after the
 * traceback went to the log. */
MUST_CHECK int wsgi_init(const struct config *config, const struct listeners *listeners,
                         struct _object *application);

/* Calls the application. `facts` and `response` are borrowed until wsgi_finish. Whatever it
 * returns, wsgi_finish must follow. */
MUST_CHECK enum wsgi_result wsgi_start(struct wsgi_call *call, const struct environ_facts *facts,
                                       struct response *response, const struct wsgi_client *client);
MUST_CHECK enum wsgi_result wsgi_next(struct wsgi_call *call);
/* Calls close() of the iterable, exactly once, and drops all references of the request. With
 * `keep`, *keep takes the reference that keeps `data` of the current piece alive (NULL: there is
 * none). */
void wsgi_finish(struct wsgi_call *call, struct _object **keep);
/* Before wsgi_finish, which then does not call close(): the server still reads the file that the
 * response has given. The caller passes what it gets to wsgi_close once, on any thread. */
struct wsgi_unclosed *wsgi_keep_open(struct wsgi_call *call);
/* Calls close() and frees `unclosed`. Returns the number of exceptions that the application did not
 * catch, 0 or 1. */
unsigned wsgi_close(struct wsgi_unclosed *unclosed);
/* Drops a reference that wsgi_finish handed out. */
void wsgi_drop(struct _object **kept);
/* Drops the references that are kept between calls. */
void wsgi_fini(struct wsgi_call *call);

#endif
