/* http.h: one HTTP/1.x request, from bytes. Layer 2: no socket, no Python.
 *
 * The head is collected in one bounded buffer, scanned strictly once by us
 * (RFC 9112; the scan refuses what llhttp lets through), then run through llhttp for
 * framing; the body goes through llhttp into `body` (or past it, by http_splice).
 *
 *     in.data          head_bytes        parsed            in.len
 *       |--- the head ---|--- done with ---|--- unparsed ----|--- room ---|
 *
 * The head stays where it is until http_reset(), so texts are offsets into it.
 * Whatever the split of the bytes over reads, the result is the same. */
#ifndef MYSERVER_HTTP_H
#define MYSERVER_HTTP_H

#include "body.h"
#include "buf.h"

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
    HTTP_FIELD_FORWARDED, /* from here on: only believed from trusted peers */
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
    size_t head_bytes; /* 0 until the head is whole */
    size_t parsed;

    /* As sent; set as soon as the request line was read (length > 0), also where the request
     * is then refused. `headers` has the lines understood until then. */
    struct http_text method, target;

    /* Valid once head_bytes is set, until http_reset(). */
    struct http_text path, query; /* of the target, still percent-encoded; query without '?';
                                   * path is "/" when an absolute-form has none, "" for "*" */
    struct http_text host;  /* authority of an absolute-form target, else Host; may be empty */
    unsigned version_minor; /* HTTP/1.0 or HTTP/1.1 */
    bool is_head;           /* the method is HEAD */
    bool keep_alive;        /* what the client asked for, by version and Connection */
    bool expects_continue;  /* 1.1, Expect: 100-continue, and a body announced */
    bool has_body;          /* Content-Length or chunked was sent, even if 0 */
    bool chunked;
    uint64_t content_length; /* as announced; 0 without Content-Length */
    /* Fields without '_' in their names; with an absolute-form target the Host field has
     * its authority as the value. Trailers never get here. */
    struct http_header headers[HTTP_MAX_FIELDS];
    unsigned header_count;
    struct body body; /* whole at HTTP_READY; body.length is the decoded length */

    unsigned refusal_status;    /* 4xx/5xx after HTTP_REFUSED */
    const char *refusal_reason; /* static text for the log */

    /* Private to http.c. */
    int stage;
    size_t scanned; /* how far the end of the line was looked for */
    size_t line_start;
    size_t head_start;   /* where the request line begins, behind empty lines */
    unsigned line_count; /* empty lines, then header lines */
    unsigned seen;       /* bit per enum http_field */
    bool asks_close, asks_keep_alive, asks_continue;
    bool authority_in_target;
    struct http_text coding; /* value of Transfer-Encoding */
    size_t window_start;     /* where the bytes begin that the parser reads now */
    uint64_t window_offset;  /* the same as a count of bytes since the head */
    uint64_t gap_start;      /* where the last piece of payload ended, as such a count */
    uint64_t gap_line_start; /* of what followed it, where the line begins that is not whole */
    unsigned gap_lines;      /* of what followed it, whole lines */
    char *payload;           /* in the window, moved together; NULL: none yet */
    size_t payload_bytes;
    char last_byte;       /* of the window before */
    size_t counted_bytes; /* of `in`, in limits->bodies */
    _Alignas(8) unsigned char parser[256];
};

/* `limits` is borrowed and must outlive `h`. */
void http_init(struct http *h, const struct http_limits *limits);
void http_fini(struct http *h);
/* Ends the request; bytes that follow it (pipelined) move to the front and are
 * parsed by http_feed(h, 0). Keeps at most 16 KiB of buffer unless more is unparsed. */
void http_reset(struct http *h);
/* Where to read(2) to: never without room, usually 4 KiB and up to 64 KiB in a body. NULL: refused,
 * because half requests have all the memory that limits->bodies has for them. */
char *http_room(struct http *h, size_t *room_bytes);
/* `received` bytes were written to http_room(). */
MUST_CHECK enum http_result http_feed(struct http *h, size_t received);
/* How many bytes of the body may go from the socket to its file without passing through
 * http_room(); 0: none, now. Never all that are missing: the end of a request is the parser's. */
uint64_t http_splice_room(const struct http *h);
/* `len` bytes, at most http_splice_room(), of the body are in a pipe. HTTP_MORE; or HTTP_REFUSED,
 * when the pipe may still hold some of them. */
MUST_CHECK enum http_result http_splice(struct http *h, int pipe_fd, size_t len);
/* Nothing of a request has arrived, but for empty lines: a connection in this state may close
 * silently. At end of file in any other state the request is lost. */
bool http_is_idle(const struct http *h);
/* The head is whole and the body is not: which timeout applies, is 100 due. */
bool http_in_body(const struct http *h);

static inline const char *http_at(const struct http *h, struct http_text t)
{
    return h->in.data + t.offset;
}
/* Answers `status` and parses nothing more. `reason` is static text. Always false, so that a
 * check can end with it. */
bool http_refuse(struct http *h, unsigned status, const char *reason);
/* Percent-decodes `len` bytes into `out` (room for `len`); escapes that are none are
 * kept. Returns the length. */
size_t http_decode(const char *path, size_t len, char *out);

#endif
