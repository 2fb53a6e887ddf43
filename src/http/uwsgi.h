/* uwsgi.h: the head of a uwsgi packet, for parse.c alone.
 *
 * Four bytes (modifier1, the length of what follows as 16 bits, little-endian, modifier2), then
 * variables: name and value, each behind its own length of 16 bits. The body comes behind them. */
#ifndef MYSERVER_HTTP_UWSGI_H
#define MYSERVER_HTTP_UWSGI_H

#include "head.h"

/* modifier1 of a request to a WSGI application. */
#define UWSGI_FIRST_BYTE '\0'

/* Looks at the first bytes in the request's `in`. `*bytes`: how long the head is; untouched while
 * that is not known. False: refused. */
MUST_CHECK bool uwsgi_begin(struct head *h, size_t *bytes);
/* The first `bytes` bytes of `in` are the head: fills the request from it. Behind it, and before
 * the bytes of the body, it adds the texts that HTTP has and a packet has not; head_bytes counts
 * them. Names of headers are changed in place. False: refused. */
MUST_CHECK bool uwsgi_head(struct head *h, size_t bytes);

#endif
