/* head.h: the lines of a request's head and of chunked bodies, for parse.c, and for uwsgi.c, whose
 * packets have the same things in another form. Each function gets one line without its CRLF, fills
 * `h` and its request from it, and returns false when it has refused the request. */
#ifndef MYSERVER_HTTP_HEAD_H
#define MYSERVER_HTTP_HEAD_H

#include "http/request.h"

/* What the lines have said so far. Zeroed for each request, but for the first two. */
struct head {
    struct request *request; /* borrowed, as `limits` */
    const struct http_limits *limits;
    unsigned line_count; /* empty lines, then header lines, then trailers */
    unsigned seen;       /* bit per enum http_field */
    bool asks_close, asks_keep_alive, asks_upgrade, asks_continue;
    struct http_text coding; /* value of Transfer-Encoding */
};

/* Whether a request line can begin with this byte. */
MUST_CHECK bool head_may_begin(char first);
/* `line` lies in the request's `in` and is not empty. */
MUST_CHECK bool head_request_line(struct head *h, const char *line, size_t len);
bool head_field(struct head *h, const char *line, size_t len);
/* The same for a field that is cut already: `name` is not empty, and both lie in the request's
 * `in`.
 */
bool head_header(struct head *h, const char *name, size_t name_len, const char *value,
                 size_t value_len);
/* Which field the server knows by this name, which is not empty. */
enum http_field head_field_of(const char *name, size_t len);
/* How many of the first `len` bytes may stand in a token (RFC 9110 5.6.2), a target, the value of a
 * field. */
size_t head_token_span(const char *s, size_t len);
size_t head_target_span(const char *s, size_t len);
size_t head_value_span(const char *s, size_t len);
/* Refuses what is no request of the protocol that is spoken here: `advice` says what the operator
 * can change. */
bool head_refuse_protocol(struct head *h, const char *advice);
/* `line` is the beginning of one that head_chunk takes. False: it has none of the right form.
 */
bool head_begin_chunk(struct head *h, const char *line, size_t len);
/* The line before a chunk: `*size`, and extensions. */
MUST_CHECK bool head_chunk(struct head *h, const char *line, size_t len, uint64_t *size);
MUST_CHECK bool head_trailer(struct head *h, const char *line, size_t len);
/* All lines are read: checks that they are a request that can be framed and is allowed. */
MUST_CHECK bool head_end(struct head *h);

#endif
