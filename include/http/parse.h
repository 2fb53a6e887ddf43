/* parse.h: one request, from bytes: HTTP/1.x, or a uwsgi packet. No socket, no Python.
 *
 * The head is collected in one bounded buffer and scanned strictly, once (RFC 9112; the scan
 * refuses what llhttp lets through). Then llhttp reads it for the framing, and the body goes
 * through llhttp into `body` (or past it, by parser_splice).
 *
 *     in.data          head_bytes        parsed            in.len
 *       |--- the head ---|--- done with ---|--- unparsed ----|--- room ---|
 *
 * The head stays where it is until parser_reset(), so texts are offsets into it. The result does
 * not depend on how the bytes were split over reads. */
#ifndef MYSERVER_HTTP_PARSE_H
#define MYSERVER_HTTP_PARSE_H

#include "http/request.h"

enum http_result {
    HTTP_MORE,    /* needs more bytes */
    HTTP_READY,   /* the request is whole, body included */
    HTTP_REFUSED, /* answer `refusal_status`, then close; nothing more is parsed */
};

struct parser; /* private */

/* Borrows both, which must outlive the parser; `request` need not be set. The caller owns it. */
struct parser *parser_new(struct request *request, const struct http_limits *limits);
/* Frees it, and the buffer and body of the request. */
void parser_free(struct parser *p);
/* Whether requests come as uwsgi packets, until it is called again; at first they are HTTP. Only
 * while parser_is_idle. */
void parser_expect_uwsgi(struct parser *p, bool uwsgi);
/* Ends the request. Pipelined bytes that follow it move to the front; parser_feed(p, 0) parses
 * them. Keeps at most 16 KiB of buffer unless more is unparsed. */
void parser_reset(struct parser *p);
/* Where to read(2) to. The room is never 0; usually 4 KiB, in a body up to 64 KiB; in a large body
 * it may be where the bytes stay (body_room). NULL: refused, because unfinished requests use all
 * the memory that limits->bodies allows. */
char *parser_room(struct parser *p, size_t *room_bytes);
/* `received` bytes were written to the parser_room() of just now. */
MUST_CHECK enum http_result parser_feed(struct parser *p, size_t received);
/* How many bytes of the body may go from the socket to its file without passing through
 * parser_room(); 0: none at the moment. Always less than all missing bytes, so that the request
 * ends in parser_feed. */
uint64_t parser_splice_room(const struct parser *p);
/* `len` bytes of the body, at most parser_splice_room(), are in a pipe: moves them to the file.
 * HTTP_MORE; or HTTP_REFUSED, and the pipe may still hold some of them. */
MUST_CHECK enum http_result parser_splice(struct parser *p, int pipe_fd, size_t len);
/* How many bytes a body still misses that may end in the kernel's memory (body_await); 0: it is no
 * such body, or not yet at all. */
uint64_t parser_missing(const struct parser *p);
/* All parser_missing() bytes have arrived at `socket`, and stay there: HTTP_READY. */
MUST_CHECK enum http_result parser_leave(struct parser *p, body_source *source, int socket);
/* Nothing of a request has arrived, except empty lines: the connection may be closed silently. At
 * end of file in any other state the request is lost. */
bool parser_is_idle(const struct parser *p);
/* The head is whole and the body is not. Decides which timeout applies and whether 100 Continue may
 * be sent. */
bool parser_in_body(const struct parser *p);

#endif
