/* response.h: one response: status line and headers into bytes, and how its body is
 * framed. No socket, no Python.
 *
 * Life: response_status, response_header..., (again from response_status when the
 * application replaces them), response_finish_head once, then response_admit and
 * response_chunk_* per piece of the body. */
#ifndef MYSERVER_HTTP_RESPONSE_H
#define MYSERVER_HTTP_RESPONSE_H

#include "base/base.h"
#include "base/buf.h"

#include <stdbool.h>

enum response_check {
    RESPONSE_OK,
    RESPONSE_BAD_STATUS, /* not "NNN text" with 200..599 */
    RESPONSE_BAD_NAME,   /* not a token (RFC 9110 5.1) */
    RESPONSE_BAD_VALUE,  /* control bytes */
    RESPONSE_BAD_LENGTH, /* Content-Length not 1*DIGIT, or given twice */
    RESPONSE_HOP_BY_HOP, /* Connection, Transfer-Encoding, ...: only the server's (PEP 3333) */
};

enum response_framing {
    RESPONSE_NO_BODY, /* HEAD, 204, 205, 304: no byte of body is sent */
    RESPONSE_LENGTH,  /* Content-Length */
    RESPONSE_CHUNKED,
    RESPONSE_TO_CLOSE, /* HTTP/1.0 without a length: ends with the connection */
};

struct response {
    struct buf head;        /* the bytes of the head */
    unsigned status;        /* 0 until response_status succeeded */
    int64_t content_length; /* the application's, then that of the head; -1: none */
    bool has_date, has_server;
    bool head_finished;

    /* After response_finish_head. */
    enum response_framing framing;
    bool keep_alive;     /* the connection may be used again when the body is whole */
    uint64_t body_bytes; /* admitted so far, or the page of response_error */
};

/* What decides the framing. */
struct response_facts {
    bool is_head;           /* the request's method is HEAD */
    unsigned version_minor; /* of the request */
    bool keep_alive;        /* client and server both want it */
    int64_t known_bytes;    /* length of the whole body if known, else -1 */
    const char *sentence;   /* without '<' and '&', for the page of response_error; NULL: none */
};

void response_fini(struct response *r);
/* Forgets everything, keeps the memory (a zeroed struct is a fresh response). */
void response_reset(struct response *r);
/* Starts the head, or starts it again: earlier headers are dropped. `text` as in PEP 3333:
 * "200 OK". */
MUST_CHECK enum response_check response_status(struct response *r, const char *text, size_t len);
/* Adds a header; Latin-1 bytes. A second Date or Server is left out, not an error. */
MUST_CHECK enum response_check response_header(struct response *r, const char *name,
                                               size_t name_len, const char *value,
                                               size_t value_len);
/* One sentence for the exception, e.g. "header name is not a token". */
const char *response_check_text(enum response_check check);
/* Chooses the framing and completes the head: Server, Date, Connection (only where it
 * differs from the version's default), Content-Length or Transfer-Encoding, empty line. */
void response_finish_head(struct response *r, const struct response_facts *facts);
/* The application answers by itself on the connection, in another protocol: for the logs this is a
 * 101 without a body. Resets `r`. */
void response_switch(struct response *r);
/* How many of the next `len` bytes of the body may be sent: never past Content-Length,
 * 0 for RESPONSE_NO_BODY. Counts them. */
size_t response_admit(struct response *r, size_t len);
/* The body is as long as the head said (always true for other framings). */
bool response_is_complete(const struct response *r);
/* Writes "<hex>\r\n", which stands before a non-empty chunk of `len` bytes, and returns its length.
 * After the chunk comes "\r\n"; the body ends with RESPONSE_LAST_CHUNK. */
#define RESPONSE_CHUNK_HEAD_MAX 18
size_t response_chunk_head(char out[RESPONSE_CHUNK_HEAD_MAX], size_t len);
#define RESPONSE_LAST_CHUNK "0\r\n\r\n"

/* Makes a whole answer of the server itself (400, 413, 500, ...): a small HTML page with the status
 * only. Resets `r`; the body follows the head in r->head. Connection as in response_finish_head. */
void response_error(struct response *r, unsigned status, const struct response_facts *facts);
/* "Bad Request" for 400; "Unknown" for what is not registered. */
const char *response_reason(unsigned status);
/* The current time as in RFC 9110 5.6.7 (29 bytes and NUL); cached per thread and second. */
const char *response_date(void);

#endif
