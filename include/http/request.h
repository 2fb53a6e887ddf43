/* request.h: what is known of one request, whatever protocol brought it. The parsers fill it
 * (parse.h, uwsgi.h); everybody else only reads it. Texts are offsets into `in`, where the head
 * stays until the next request. */
#ifndef MYSERVER_HTTP_REQUEST_H
#define MYSERVER_HTTP_REQUEST_H

#include "base/buf.h"
#include "base/text.h"
#include "http/body.h"

#include <stdbool.h>

#define HTTP_MAX_FIELDS 256

/* What a request may be; a parser refuses more. */
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
    HTTP_FIELD_TRACEPARENT,
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

struct request {
    struct buf in;
    size_t head_bytes; /* length of the head; 0 until it is whole */

    /* As sent; set as soon as the request line was read (length > 0), even if the request is then
     * refused. `headers` has the fields that were accepted until then. */
    struct http_text method, target;
    struct http_text
        line; /* "METHOD TARGET HTTP/x.y", when it was read whole; see request_has_line */

    /* Valid once head_bytes is set, until parser_reset(). With `line` alone, path and query are
     * those of the target as far as it was understood. */
    struct http_text path, query; /* of the target, still percent-encoded; query without '?';
                                   * path is "/" when an absolute-form has none, "" for "*" */
    bool authority_in_target;     /* absolute-form */
    struct http_text host;  /* authority of an absolute-form target, else Host; may be empty */
    unsigned version_minor; /* HTTP/1.0 or HTTP/1.1 */
    bool is_head;           /* the method is HEAD */
    bool keep_alive;        /* what the client asked for, by version and Connection */
    bool asks_upgrade;      /* HTTP/1.1, Connection: upgrade and Upgrade, and no body */
    bool expects_continue;  /* HTTP/1.1, Expect: 100-continue, and a body is announced */
    bool has_body; /* Content-Length or Transfer-Encoding was sent, even if the body is empty */
    bool chunked;
    uint64_t content_length; /* as announced; 0 without Content-Length */
    /* Fields whose names contain no '_'. With an absolute-form target, the Host field gets the
     * authority of the target as its value. Trailers are never added. */
    struct http_header headers[HTTP_MAX_FIELDS];
    unsigned header_count;

    bool is_uwsgi; /* it comes as a uwsgi packet; what follows is known only then */
    /* Variables of the packet that are no headers lie behind them in `headers`: keys of environ.
     * Only a proxy that is trusted may set them, or say what the other three say. */
    unsigned variable_count;
    struct http_text remote_addr, remote_port; /* as sent; may be empty */
    bool says_https;

    struct body body; /* whole at HTTP_READY; body.length is the decoded length */

    unsigned refusal_status;    /* 4xx/5xx after HTTP_REFUSED */
    const char *refusal_reason; /* static text for the log */
    bool refusal_shown;         /* and for the page: nobody but the operator can have caused it */
};

/* Whether a request line was read that has the right form, even if the request was then refused. */
static inline bool request_has_line(const struct request *r)
{
    return r->line.length > 0;
}
static inline const char *request_at(const struct request *r, struct http_text t)
{
    return r->in.data + t.offset;
}
static inline struct text request_piece(const struct request *r, struct http_text t)
{
    return (struct text){request_at(r, t), t.length};
}
/* "HTTP/1.1": the end of the request line, which must be there. */
static inline struct http_text request_protocol(const struct request *r)
{
    const uint32_t len = sizeof("HTTP/1.1") - 1;
    return (struct http_text){r->line.offset + r->line.length - len, len};
}
/* Refuses the request with `status`; nothing more is parsed. `reason` is static text. Always
 * returns false, so that a check can end with it. */
static inline bool request_refuse(struct request *r, unsigned status, const char *reason)
{
    r->refusal_status = status;
    r->refusal_reason = reason;
    return false;
}
/* All fields of that kind, as one list (RFC 9110 5.3); of HTTP_FIELD_OTHER those of that name. Lies
 * in the request where there is one field, else in `room`; {NULL, 0}: there is none. The caller
 * frees `room`. */
struct text request_list(const struct request *r, enum http_field field, const char *name,
                         struct buf *room);
/* Whether somebody has logged in, as far as the request shows it: it has cookies, or an
 * authorization. */
bool request_has_login(const struct request *r);
/* Forgets everything but `in` and the body, which the parser has its way with. */
void request_forget(struct request *r);
/* Percent-decodes `len` bytes into `out` (room for `len`). Invalid escapes are kept as they are.
 * Returns the length. */
size_t request_decode(const char *path, size_t len, char *out);

#endif
