/* access.h: one line of the access log, made from a format. Bytes only.
 *
 * Every value is escaped (log_escape, or as JSON strings), so that no client can forge a line or a
 * field. */
#ifndef MYSERVER_HTTP_ACCESS_H
#define MYSERVER_HTTP_ACCESS_H

#include "base/base.h"
#include "base/buf.h"

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

struct request;

/* The parts of a request's time, as %({NAME}m)s names them, in the order of ledger.h. */
#define ACCESS_PARTS 8
extern const char *const access_part_names[ACCESS_PARTS];

/* Where the time of a request went. */
struct access_costs {
    const uint64_t *parts_ns; /* [ACCESS_PARTS] */
    const char *view;
    const char *trace; /* its id */
    unsigned queries;
};

struct access_entry {
    const char *client; /* REMOTE_ADDR; "-" when unknown */
    /* may be incomplete: request_has_line; the headers are those that were accepted */
    const struct request *request;
    const struct response *response; /* its head has the headers that were sent; NULL: none */
    /* 499: the client went away, or the server stopped at once, before an answer; 0: the worker
     * ended before one */
    unsigned status;
    uint64_t body_bytes; /* of the response, without framing */
    /* wall clock when the first byte of the request was read, or since when it was seen to wait */
    struct timespec start;
    uint64_t duration_ns;             /* from then until the last byte was handed to the kernel */
    unsigned worker;                  /* its number, from 1 */
    pid_t pid;                        /* of the worker; 0: this process */
    const struct access_costs *costs; /* NULL: not known */
    const char *end; /* reason of a bad end ("client closed", "header timeout"), or NULL */
};

struct access_format; /* compiled, opaque */

/* `format`: "combined", "json", or text with gunicorn's atoms: %(h)s %(l)s %(u)s %(t)s %(r)s
 * %(s)s %(m)s %(U)s %(q)s %(H)s %(b)s %(B)s %(f)s %(a)s %(T)s %(D)s %(M)s %(L)s %(p)s
 * %({name}i)s %({name}o)s, %%, and %({name}m)s: view, trace, queries, or a part of the time in
 * milliseconds, "db" for database. Returns NULL and a sentence in `*error` (owned by the caller)
 * for an unknown atom. */
MUST_CHECK struct access_format *access_compile(const char *format, char **error);
void access_free(struct access_format *format);
/* Appends one line with its newline. */
void access_line(const struct access_format *format, const struct access_entry *entry,
                 struct buf *out);

#endif
