/* http.h: one HTTP/1.x request, from bytes. Layer 2: no socket, no Python.
 *
 * The head is collected in one bounded buffer and scanned strictly, once (RFC 9112; the scan
 * refuses what llhttp lets through). Then llhttp reads it for the framing, and the body goes
 * through llhttp into `body` (or past it, by http_splice).
 *
 *     in.data          head_bytes        parsed            in.len
 *       |--- the head ---|--- done with ---|--- unparsed ----|--- room ---|
 *
 * The head stays where it is until http_reset(), so texts are offsets into it. The result does not
 * depend on how the bytes were split over reads. */
#ifndef MYSERVER_HTTP_H
#define MYSERVER_HTTP_H

#include "base/buf.h"
#include "http/body.h"

#include <stdbool.h>

struct http_limits {
    size_t request_line_bytes;  /* longer: 414 */
    size_t field_bytes;         /* one header line longer: 431 */
    size_t head_bytes;          /* whole head longer: 431 */
    unsigned fields;            /* more header lines: 431; at most HTTP_MAX_FIELDS */
    uint64_t body_bytes;        /* larger: 413 */
    size_t body_memory_bytes;   /* see body.h */
    const char *tmp_dir;        /* borrowed */
    struct body_budget *bodies; /* borrowed; see body.h; NULL: none */
};

#define HTTP_MAX_FIELDS 256

enum http_result {
    HTTP_MORE,    /* needs more bytes */
    HTTP_READY,   /* the request is whole, body included */
    HTTP_REFUSED, /* answer `refusal_status`, then close; nothing more is parsed */
};

/* Headers the server itself looks at. */
enum http_field {
    HTTP_FIELD_OTHER,
    HTTP_FIELD_CONNECTION,
    HTTP_FIELD_CONTENT_LENGTH,
    HTTP_FIELD_CONTENT_TYPE,
    HTTP_FIELD_COOKIE,
    HTTP_FIELD_EXPECT,
    HTTP_FIELD_FORWARDED, /* from here on: used only from trusted peers */
    HTTP_FIELD_X_FORWARDED_FOR,
    HTTP_FIELD_X_FORWARDED_HOST,
    HTTP_FIELD_X_FORWARDED_PORT,
    HTTP_FIELD_X_FORWARDED_PROTO,
    HTTP_FIELD_X_FORWARDED_PROTOCOL,
    HTTP_FIELD_X_FORWARDED_SSL,
    HTTP_FIELD_X_FORWARDED_OTHER,
    HTTP_FIELD_X_REAL_IP, /* to here */
    HTTP_FIELD_HOST,
    HTTP_FIELD_TRANSFER_ENCODING,
};

struct http_text {
    uint32_t offset; /* into in.data */
    uint32_t length; /* bytes */
};

struct http_header {
    struct http_text name;  /* as sent */
    struct http_text value; /* without surrounding SP and HTAB */
    enum http_field field;
};

struct http {
    const struct http_limits *limits; /* borrowed */
    struct buf in;
    size_t head_bytes; /* length of the head; 0 until it is whole */
    size_t parsed;

    /* As sent; set as soon as the request line was read (length > 0), even if the request is then
     * refused. `headers` has the fields that were accepted until then. */
    struct http_text method, target;
    struct http_text line; /* "METHOD TARGET HTTP/x.y", when it was read whole; see http_has_line */

    /* Valid once head_bytes is set, until http_reset(). With `line` alone, path and query are those
     * of the target as far as it was understood. */
    struct http_text path, query; /* of the target, still percent-encoded; query without '?';
                                   * path is "/" when an absolute-form has none, "" for "*" */
    struct http_text host;  /* authority of an absolute-form target, else Host; may be empty */
    unsigned version_minor; /* HTTP/1.0 or HTTP/1.1 */
    bool is_head;           /* the method is HEAD */
    bool keep_alive;        /* what the client asked for, by version and Connection */
    bool expects_continue;  /* HTTP/1.1, Expect: 100-continue, and a body is announced */
    bool has_body; /* Content-Length or Transfer-Encoding was sent, even if the body is empty */
    bool chunked;
    uint64_t content_length; /* as announced; 0 without Content-Length */
    /* Fields whose names contain no '_'. With an absolute-form target, the Host field gets the
     * authority of the target as its value. Trailers are never added. */
    struct http_header headers[HTTP_MAX_FIELDS];
    unsigned header_count;
    struct body body; /* whole at HTTP_READY; body.length is the decoded length */

    unsigned refusal_status;    /* 4xx/5xx after HTTP_REFUSED */
    const char *refusal_reason; /* static text for the log */

    /* Private to http.c. */
    int stage;
    size_t scanned; /* how far the bytes were searched for the end of the line */
    size_t line_start;
    size_t head_start;   /* where the request line begins, after empty lines */
    unsigned line_count; /* empty lines, then header lines */
    unsigned seen;       /* bit per enum http_field */
    bool asks_close, asks_keep_alive, asks_continue;
    bool authority_in_target;
    struct http_text coding; /* value of Transfer-Encoding */
    size_t window_start;     /* in `in`: where the bytes begin that llhttp reads now (the window) */
    uint64_t window_offset;  /* the same place, counted in bytes of the body as sent */
    uint64_t gap_start;      /* where the last piece of payload ended, counted the same way */
    /* where the last, incomplete line after it begins, counted the same way */
    uint64_t gap_line_start;
    unsigned gap_lines; /* complete lines after it */
    char *payload;      /* payload of the window, its pieces moved together; NULL: none yet */
    size_t payload_bytes;
    char last_byte;       /* last byte of the window before */
    size_t counted_bytes; /* what `in` adds to limits->bodies */
    _Alignas(8) unsigned char parser[256];
};

/* `limits` is borrowed and must outlive `h`. */
void http_init(struct http *h, const struct http_limits *limits);
void http_fini(struct http *h);
/* Ends the request. Pipelined bytes that follow it move to the front; http_feed(h, 0) parses them.
 * Keeps at most 16 KiB of buffer unless more is unparsed. */
void http_reset(struct http *h);
/* Where to read(2) to. The room is never 0; usually 4 KiB, in a body up to 64 KiB. NULL: refused,
 * because unfinished requests use all the memory that limits->bodies allows. */
char *http_room(struct http *h, size_t *room_bytes);
/* `received` bytes were written to http_room(). */
MUST_CHECK enum http_result http_feed(struct http *h, size_t received);
/* How many bytes of the body may go from the socket to its file without passing through
 * http_room(); 0: none at the moment. Always less than all missing bytes: llhttp must see the end
 * of the request. */
uint64_t http_splice_room(const struct http *h);
/* `len` bytes of the body, at most http_splice_room(), are in a pipe: moves them to the file.
 * HTTP_MORE; or HTTP_REFUSED, and the pipe may still hold some of them. */
MUST_CHECK enum http_result http_splice(struct http *h, int pipe_fd, size_t len);
/* Nothing of a request has arrived, except empty lines: the connection may be closed silently. At
 * end of file in any other state the request is lost. */
bool http_is_idle(const struct http *h);
/* The head is whole and the body is not. Decides which timeout applies and whether 100 Continue may
 * be sent. */
bool http_in_body(const struct http *h);

/* Whether a request line was read that has the right form, even if the request was then refused. */
static inline bool http_has_line(const struct http *h)
{
    return h->line.length > 0;
}
static inline const char *http_at(const struct http *h, struct http_text t)
{
    return h->in.data + t.offset;
}
/* Refuses the request with `status`; nothing more is parsed. `reason` is static text. Always
 * returns false, so that a check can end with it. */
bool http_refuse(struct http *h, unsigned status, const char *reason);
/* Percent-decodes `len` bytes into `out` (room for `len`). Invalid escapes are kept as they are.
 * Returns the length. */
size_t http_decode(const char *path, size_t len, char *out);

#endif
