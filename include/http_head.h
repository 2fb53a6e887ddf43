/* http_head.h: the lines of a request's head, for http.c alone. Each function gets one line without
 * its CRLF, fills `h` from it, and returns false when it has refused the request. */
#ifndef MYSERVER_HTTP_HEAD_H
#define MYSERVER_HTTP_HEAD_H

#include "http/request.h"

/* Whether a request line can begin with this byte. */
MUST_CHECK bool http_head_may_begin(char first);
/* `line` lies in h->in and is not empty. */
MUST_CHECK bool http_head_request_line(struct http *h, const char *line, size_t len);
bool http_head_field(struct http *h, const char *line, size_t len);
/* All lines are read: checks that they are a request that can be framed and is allowed. */
MUST_CHECK bool http_head_end(struct http *h);

#endif
