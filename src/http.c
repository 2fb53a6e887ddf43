/* http.c: one HTTP/1.x request, from bytes to a table of fields and a body.
 *
 * Owns the rules of RFC 9112 that decide whether a request is taken: every line of the head
 * is checked here, once, as it becomes whole, and what a field says about the framing is
 * compared with what llhttp made of the same bytes. Whoever is in doubt refuses. llhttp
 * decodes the body; its bytes pass through the same buffer behind the head.
 *
 * Every decision depends on the bytes and their positions alone, never on how they were
 * split over reads: a line that may still become too long is refused at the byte where its
 * whole form would be.
 *
 * Never reads a socket, never writes an answer, never keeps a pointer into the buffer. */
#include "http.h"

#include <arpa/inet.h>
#include <llhttp.h>
#include <string.h>
#include <strings.h>

#if LLHTTP_VERSION_MAJOR < 9 && !LLHTTP_STRICT_MODE
#error "llhttp before 9 lets known smuggling through without -DLLHTTP_STRICT_MODE=1"
#endif

enum stage { STAGE_START, STAGE_FIELDS, STAGE_BODY, STAGE_READY, STAGE_REFUSED };

#define FIRST_BUFFER_BYTES 8192
#define ROOM_BYTES         4096
#define BODY_BUFFER_BYTES  65536
#define KEPT_BUFFER_BYTES  16384

/* RFC 9112 2.2 asks to bear at least one empty line before the request line. */
#define EMPTY_LINES_MAX    2
/* CVE-2024-22019: sizes, extensions and trailers of a chunked body have no limit in llhttp.
 * One run of them between two pieces of payload, and how far all may exceed the payload:
 * chunks of six bytes and more pass for ever. */
#define OVERHEAD_BYTES_MAX 16384

_Static_assert(sizeof(llhttp_t) <= sizeof(((struct http *)0)->parser), "parser is too small");
_Static_assert(HTTP_FIELD_TRANSFER_ENCODING < 32, "seen has a bit per field");

#define TOKEN    1 /* RFC 9110 5.6.2 */
#define TARGET   2 /* visible ASCII but '#': a fragment is never sent */
#define VALUE    4 /* HTAB, SP, VCHAR, obs-text (RFC 9110 5.5) */
#define REG_NAME 8 /* RFC 3986 3.2.2, without '%' */

#define ALL      (TOKEN | TARGET | VALUE | REG_NAME)
#define T_V      (TARGET | VALUE)
#define TTV      (TOKEN | TARGET | VALUE)
#define TVR      (TARGET | VALUE | REG_NAME)

/* clang-format off */
static const unsigned char class_of[256] = {
    ['\t'] = VALUE, [' '] = VALUE,
    ['!'] = ALL, ['"'] = T_V, ['#'] = TOKEN | VALUE, ['$'] = ALL, ['%'] = TTV, ['&'] = ALL,
    ['\''] = ALL, ['('] = TVR, [')'] = TVR, ['*'] = ALL, ['+'] = ALL, [','] = TVR, ['-'] = ALL,
    ['.'] = ALL, ['/'] = T_V, ['0' ... '9'] = ALL, [':'] = T_V, [';'] = TVR, ['<'] = T_V,
    ['='] = TVR, ['>'] = T_V, ['?'] = T_V, ['@'] = T_V, ['A' ... 'Z'] = ALL, ['['] = T_V,
    ['\\'] = T_V, [']'] = T_V, ['^'] = TTV, ['_'] = ALL, ['`'] = TTV, ['a' ... 'z'] = ALL,
    ['{'] = T_V, ['|'] = TTV, ['}'] = T_V, ['~'] = ALL, [0x80 ... 0xff] = VALUE,
};
/* clang-format on */

static bool is_class(char c, unsigned char class)
{
    return (class_of[(unsigned char)c] & class) != 0;
}

/* How many of the first `len` bytes are of `class`. */
static size_t span(const char *s, size_t len, unsigned char class)
{
    size_t i = 0;
    while (i < len && is_class(s[i], class)) {
        i++;
    }
    return i;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_digit(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_word(const char *s, size_t len, const char *lower, size_t lower_len)
{
    return len == lower_len && strncasecmp(s, lower, len) == 0;
}
#define IS(s, len, literal) is_word(s, len, literal, sizeof(literal) - 1)

/* Always false, so that a check can end with it. */
static bool refuse(struct http *h, unsigned status, const char *reason)
{
    h->stage = STAGE_REFUSED;
    h->refusal_status = status;
    h->refusal_reason = reason;
    return false;
}

static struct http_text text_of(const struct http *h, const char *s, size_t len)
{
    return (struct http_text){.offset = (uint32_t)(s - h->in.data), .length = (uint32_t)len};
}

/* ---- the value of Host, the authority of a target ---- */

/* The length of a host at the start of `s`, 0 if there is none. */
static size_t host_span(const char *s, size_t len)
{
    if (len > 0 && s[0] == '[') {
        char address[INET6_ADDRSTRLEN];
        struct in6_addr ignored;
        const char *end = memchr(s, ']', len);
        size_t n = end ? (size_t)(end - s - 1) : 0;
        if (n == 0 || n >= sizeof(address) || memchr(s, 0, n)) {
            return 0;
        }
        memcpy(address, s + 1, n);
        address[n] = '\0';
        return inet_pton(AF_INET6, address, &ignored) == 1 ? n + 2 : 0;
    }
    size_t i = span(s, len, REG_NAME);
    while (i + 2 < len && s[i] == '%' && hex_digit(s[i + 1]) >= 0 && hex_digit(s[i + 2]) >= 0) {
        i += 3;
        i += span(s + i, len - i, REG_NAME);
    }
    return i;
}

/* RFC 9110 7.2: uri-host [ ":" port ]. No userinfo, no empty host (RFC 9110 4.2.1). */
static bool is_authority(const char *s, size_t len)
{
    size_t i = host_span(s, len);
    if (i == 0) {
        return false;
    }
    if (i < len && s[i] == ':') {
        i++;
        while (i < len && is_digit(s[i])) {
            i++;
        }
    }
    return i == len;
}

/* ---- the request line ---- */

static bool is_known_method(const char *s, size_t len)
{
    static const struct {
        const char *name;
        size_t len;
    } known[] = {
#define METHOD(number, name, string) {#string, sizeof(#string) - 1},
        HTTP_METHOD_MAP(METHOD)
#undef METHOD
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (known[i].len == len && memcmp(known[i].name, s, len) == 0) {
            return true;
        }
    }
    return false;
}

static bool check_method(struct http *h)
{
    const char *method = http_at(h, h->method);
    size_t len = h->method.length;
    h->is_head = len == 4 && memcmp(method, "HEAD", 4) == 0;
    if (len == 3 && memcmp(method, "GET", 3) == 0) {
        return true;
    }
    /* RFC 9112 9.3.6: what follows a CONNECT is no HTTP; we are no proxy. */
    if (!is_known_method(method, len) || (len == 7 && memcmp(method, "CONNECT", 7) == 0)) {
        return refuse(h, 501, "method not implemented");
    }
    return true;
}

static bool scan_version(struct http *h, const char *s, size_t len)
{
    if (len != 8 || memcmp(s, "HTTP/", 5) != 0 || !is_digit(s[5]) || s[6] != '.' ||
        !is_digit(s[7])) {
        return refuse(h, 400, "malformed request line");
    }
    if (s[5] != '1' || s[7] > '1') {
        return refuse(h, 505, "HTTP version not supported");
    }
    h->version_minor = (unsigned)(s[7] - '0');
    return true;
}

static void split_query(struct http *h, const char *s, size_t len)
{
    const char *mark = memchr(s, '?', len);
    size_t path_len = mark ? (size_t)(mark - s) : len;
    h->path = text_of(h, s, path_len);
    if (mark) {
        h->query = text_of(h, mark + 1, len - path_len - 1);
    }
}

/* absolute-form, RFC 9112 3.2.2: its authority is the host, whatever Host says. */
static bool scan_absolute(struct http *h, const char *s, size_t len)
{
    size_t scheme_len = 0;
    if (len > 7 && strncasecmp(s, "http://", 7) == 0) {
        scheme_len = 7;
    } else if (len > 8 && strncasecmp(s, "https://", 8) == 0) {
        scheme_len = 8;
    } else {
        return refuse(h, 400, "malformed request target");
    }
    const char *authority = s + scheme_len;
    const char *end = s + len;
    const char *path = authority;
    while (path < end && *path != '/' && *path != '?') {
        path++;
    }
    if (!is_authority(authority, (size_t)(path - authority))) {
        return refuse(h, 400, "malformed authority in the request target");
    }
    h->host = text_of(h, authority, (size_t)(path - authority));
    h->authority_in_target = true;
    split_query(h, path, (size_t)(end - path));
    if (h->path.length == 0) {
        /* RFC 9110 4.2.3: an empty path is "/"; the one before the authority lends its byte. */
        h->path = text_of(h, authority - 1, 1);
    }
    return true;
}

static bool scan_target(struct http *h)
{
    const char *s = http_at(h, h->target);
    size_t len = h->target.length;
    if (s[0] == '/') {
        split_query(h, s, len);
        return true;
    }
    if (len == 1 && s[0] == '*') {
        const char *method = http_at(h, h->method);
        h->path = text_of(h, s, 0);
        return (h->method.length == 7 && memcmp(method, "OPTIONS", 7) == 0) ||
               refuse(h, 400, "target * without OPTIONS");
    }
    return scan_absolute(h, s, len);
}

static bool scan_request_line(struct http *h, const char *line, size_t len)
{
    size_t method_len = span(line, len, TOKEN);
    if (method_len == 0 || method_len == len || line[method_len] != ' ') {
        return refuse(h, 400, "malformed request line");
    }
    const char *target = line + method_len + 1;
    size_t rest = len - method_len - 1;
    size_t target_len = span(target, rest, TARGET);
    if (target_len == 0 || target_len == rest || target[target_len] != ' ') {
        return refuse(h, 400, "malformed request line");
    }
    h->method = text_of(h, line, method_len);
    h->target = text_of(h, target, target_len);
    return scan_version(h, target + target_len + 1, rest - target_len - 1) && check_method(h) &&
           scan_target(h);
}

/* ---- fields ---- */

static enum http_field field_of(const char *name, size_t len)
{
#define NAMED(literal, field)                                                                      \
    if (IS(name, len, literal)) {                                                                  \
        return field;                                                                              \
    }
    /* The first letter spares most of the comparisons. */
    switch (name[0] | 0x20) {
    case 'c':
        NAMED("connection", HTTP_FIELD_CONNECTION)
        NAMED("content-length", HTTP_FIELD_CONTENT_LENGTH)
        NAMED("content-type", HTTP_FIELD_CONTENT_TYPE)
        NAMED("cookie", HTTP_FIELD_COOKIE)
        break;
    case 'e':
        NAMED("expect", HTTP_FIELD_EXPECT)
        break;
    case 'f':
        NAMED("forwarded", HTTP_FIELD_FORWARDED)
        break;
    case 'h':
        NAMED("host", HTTP_FIELD_HOST)
        break;
    case 't':
        NAMED("transfer-encoding", HTTP_FIELD_TRANSFER_ENCODING)
        break;
    case 'x':
        NAMED("x-forwarded-for", HTTP_FIELD_X_FORWARDED_FOR)
        NAMED("x-forwarded-host", HTTP_FIELD_X_FORWARDED_HOST)
        NAMED("x-forwarded-port", HTTP_FIELD_X_FORWARDED_PORT)
        NAMED("x-forwarded-proto", HTTP_FIELD_X_FORWARDED_PROTO)
        NAMED("x-forwarded-protocol", HTTP_FIELD_X_FORWARDED_PROTOCOL)
        NAMED("x-forwarded-ssl", HTTP_FIELD_X_FORWARDED_SSL)
        NAMED("x-real-ip", HTTP_FIELD_X_REAL_IP)
        break;
    }
#undef NAMED
    return HTTP_FIELD_OTHER;
}

/* Cuts the next element off a comma-separated list, without the blanks around it. */
static bool next_element(const char **list, size_t *list_len, const char **element, size_t *len)
{
    if (*list == NULL) {
        return false;
    }
    const char *comma = memchr(*list, ',', *list_len);
    const char *start = *list;
    const char *end = comma ? comma : start + *list_len;
    *list_len -= (size_t)(end - start) + (comma ? 1 : 0);
    *list = comma ? comma + 1 : NULL;
    while (start < end && (*start == ' ' || *start == '\t')) {
        start++;
    }
    while (end > start && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    *element = start;
    *len = (size_t)(end - start);
    return true;
}

static void scan_connection(struct http *h, const char *value, size_t len)
{
    const char *option;
    size_t option_len;
    while (next_element(&value, &len, &option, &option_len)) {
        h->asks_close |= IS(option, option_len, "close");
        h->asks_keep_alive |= IS(option, option_len, "keep-alive");
    }
}

static bool scan_content_length(struct http *h, const char *value, size_t len)
{
    uint64_t bytes = 0;
    bool overflow = false;
    if (len == 0) {
        return refuse(h, 400, "empty Content-Length");
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(value[i])) {
            return refuse(h, 400, "malformed Content-Length");
        }
        overflow |= __builtin_mul_overflow(bytes, 10, &bytes);
        overflow |= __builtin_add_overflow(bytes, (uint64_t)(value[i] - '0'), &bytes);
    }
    h->content_length = overflow ? UINT64_MAX : bytes;
    return true;
}

static bool note_field(struct http *h, enum http_field field, const char *value, size_t len)
{
    const unsigned once = 1u << HTTP_FIELD_CONTENT_LENGTH | 1u << HTTP_FIELD_TRANSFER_ENCODING |
                          1u << HTTP_FIELD_HOST | 1u << HTTP_FIELD_CONTENT_TYPE;
    if (h->seen & once & 1u << field) {
        return refuse(h, 400, "a field that may stand once is repeated");
    }
    h->seen |= 1u << field;
    if (field == HTTP_FIELD_CONNECTION) {
        scan_connection(h, value, len);
    } else if (field == HTTP_FIELD_CONTENT_LENGTH) {
        return scan_content_length(h, value, len);
    } else if (field == HTTP_FIELD_TRANSFER_ENCODING) {
        h->coding = text_of(h, value, len);
    } else if (field == HTTP_FIELD_EXPECT) {
        h->asks_continue = IS(value, len, "100-continue");
    } else if (field == HTTP_FIELD_HOST) {
        if (len > 0 && !is_authority(value, len)) {
            return refuse(h, 400, "malformed Host");
        }
        if (!h->authority_in_target) {
            h->host = text_of(h, value, len);
        }
    }
    return true;
}

static void add_header(struct http *h, struct http_text name, struct http_text value,
                       enum http_field field)
{
    bool replaced = field == HTTP_FIELD_HOST && h->authority_in_target;
    assert(h->header_count < HTTP_MAX_FIELDS);
    h->headers[h->header_count++] =
        (struct http_header){.name = name, .value = replaced ? h->host : value, .field = field};
}

static bool scan_field(struct http *h, const char *line, size_t len)
{
    if (++h->line_count > h->limits->fields || h->line_count > HTTP_MAX_FIELDS) {
        return refuse(h, 431, "too many header fields");
    }
    /* No name, a blank before the colon, and obs-fold (RFC 9112 5.2) all end here. */
    size_t name_len = span(line, len, TOKEN);
    if (name_len == 0 || name_len == len || line[name_len] != ':') {
        return refuse(h, 400, "malformed header field");
    }
    const char *value = line + name_len + 1;
    size_t value_len = len - name_len - 1;
    if (span(value, value_len, VALUE) != value_len) {
        return refuse(h, 400, "control byte in a header field");
    }
    while (value_len > 0 && (value[0] == ' ' || value[0] == '\t')) {
        value++;
        value_len--;
    }
    while (value_len > 0 && (value[value_len - 1] == ' ' || value[value_len - 1] == '\t')) {
        value_len--;
    }
    enum http_field field = field_of(line, name_len);
    if (field != HTTP_FIELD_OTHER && !note_field(h, field, value, value_len)) {
        return false;
    }
    /* X_Y and X-Y are one key in environ: a client could set what only a proxy may. */
    if (memchr(line, '_', name_len) == NULL) {
        add_header(h, text_of(h, line, name_len), text_of(h, value, value_len), field);
    }
    return true;
}

/* ---- the end of the head: framing ---- */

/* RFC 9112 6.1 and 6.3: `chunked` alone, or nothing that we can frame. */
static bool check_coding(struct http *h)
{
    const char *list = http_at(h, h->coding);
    size_t list_len = h->coding.length;
    const char *coding;
    size_t len;
    bool chunked_seen = false;
    if (h->version_minor == 0 || h->seen & 1u << HTTP_FIELD_CONTENT_LENGTH) {
        return refuse(h, 400, "Transfer-Encoding with Content-Length or in HTTP/1.0");
    }
    h->chunked = IS(list, list_len, "chunked");
    if (h->chunked) {
        return true;
    }
    while (next_element(&list, &list_len, &coding, &len)) {
        if (len == 0 || span(coding, len, TOKEN) != len || chunked_seen) {
            return refuse(h, 400, "malformed Transfer-Encoding");
        }
        chunked_seen = IS(coding, len, "chunked");
    }
    return refuse(h, 501, "transfer coding not implemented");
}

static bool check_head(struct http *h)
{
    h->has_body = h->seen & (1u << HTTP_FIELD_CONTENT_LENGTH | 1u << HTTP_FIELD_TRANSFER_ENCODING);
    h->keep_alive = !h->asks_close && (h->version_minor == 1 || h->asks_keep_alive);
    if (h->version_minor == 1 && !(h->seen & 1u << HTTP_FIELD_HOST)) {
        return refuse(h, 400, "HTTP/1.1 without Host");
    }
    if (h->seen & 1u << HTTP_FIELD_TRANSFER_ENCODING && !check_coding(h)) {
        return false;
    }
    if (h->content_length > h->limits->body_bytes) {
        return refuse(h, 413, "Content-Length above the limit");
    }
    if (h->version_minor == 1 && h->seen & 1u << HTTP_FIELD_EXPECT) {
        if (!h->asks_continue) {
            return refuse(h, 417, "unknown expectation");
        }
        h->expects_continue = h->chunked || h->content_length > 0;
    }
    return true;
}

/* ---- llhttp ---- */

/* A callback that refused has said why already. */
static void refuse_parsed(struct http *h, llhttp_errno_t error)
{
    if (h->stage != STAGE_REFUSED) {
        refuse(h, 400, llhttp_errno_name(error));
    }
}

static int on_headers_complete(llhttp_t *p)
{
    struct http *h = p->data;
    bool chunked = (p->flags & F_CHUNKED) != 0;
    if (chunked != h->chunked || p->content_length != h->content_length) {
        refuse(h, 400, "the framing is ambiguous");
        return -1;
    }
    /* RFC 9110 7.8: an upgrade may be ignored; llhttp would stop at the end of the message. */
    p->upgrade = 0;
    h->stage = STAGE_BODY;
    return 0;
}

static int on_chunk_header(llhttp_t *p)
{
    struct http *h = p->data;
    /* Up to 2^64-1 by one line of the client: compared before any sum is made. */
    if (p->content_length > h->limits->body_bytes - h->body.length) {
        refuse(h, 413, "chunked body above the limit");
        return -1;
    }
    return 0;
}

/* `position` counts the bytes of the body as they were sent, up to payload or its end. */
static bool check_overhead(struct http *h, uint64_t position)
{
    if (h->chunked && (position - h->gap_start > OVERHEAD_BYTES_MAX ||
                       position - h->body.length > h->body.length + OVERHEAD_BYTES_MAX)) {
        return refuse(h, 400, "chunk sizes, extensions or trailers too long");
    }
    return true;
}

static size_t window_bytes(const struct http *h, const char *up_to)
{
    return (size_t)(up_to - h->in.data) - h->window_start;
}

static int on_body(llhttp_t *p, const char *at, size_t len)
{
    struct http *h = p->data;
    uint64_t position = h->window_offset + window_bytes(h, at);
    if (!check_overhead(h, position)) {
        return -1;
    }
    switch (body_append(&h->body, at, len)) {
    case BODY_OK:
        break;
    case BODY_FAILED:
        refuse(h, 500, "the body could not be kept in a temporary file");
        return -1;
    }
    h->gap_start = position + len;
    return 0;
}

static int on_message_complete(llhttp_t *p)
{
    struct http *h = p->data;
    h->stage = STAGE_READY;
    /* What follows is another request, parsed after this one is answered. */
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_headers_complete = on_headers_complete,
    .on_chunk_header = on_chunk_header,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

static llhttp_t *parser_of(struct http *h)
{
    return (llhttp_t *)(void *)h->parser;
}

static void parse_head(struct http *h)
{
    llhttp_t *p = parser_of(h);
    llhttp_init(p, HTTP_REQUEST, &settings);
    p->data = h;
    llhttp_errno_t error =
        llhttp_execute(p, h->in.data + h->head_start, h->head_bytes - h->head_start);
    h->parsed = h->head_bytes;
    if ((error != HPE_OK || h->stage != STAGE_BODY) &&
        (error != HPE_PAUSED || h->stage != STAGE_READY)) {
        refuse_parsed(h, error);
    }
}

/* llhttp 8 and 9 take a bare LF for the end of a chunked body. */
static bool check_last_line(struct http *h)
{
    char before = h->parsed - h->window_start >= 2 ? h->in.data[h->parsed - 2] : h->last_byte;
    return !h->chunked || before == '\r' || refuse(h, 400, "the body does not end in CRLF");
}

static void parse_body(struct http *h)
{
    llhttp_t *p = parser_of(h);
    size_t len = h->in.len - h->parsed;
    h->window_start = h->parsed;
    llhttp_errno_t error = llhttp_execute(p, h->in.data + h->parsed, len);
    if (error == HPE_OK && h->stage == STAGE_BODY) {
        h->window_offset += len;
        h->last_byte = h->in.data[h->in.len - 1];
        h->in.len = h->parsed = h->head_bytes;
        check_overhead(h, h->window_offset);
    } else if (error == HPE_PAUSED && h->stage == STAGE_READY) {
        size_t taken = window_bytes(h, llhttp_get_error_pos(p));
        h->parsed += taken;
        if (check_last_line(h)) {
            check_overhead(h, h->window_offset + taken);
        }
    } else if (check_overhead(h, h->window_offset + window_bytes(h, llhttp_get_error_pos(p)))) {
        refuse_parsed(h, error);
    }
}

/* ---- lines ---- */

static void take_line(struct http *h, size_t lf)
{
    const char *line = h->in.data + h->line_start;
    size_t len = lf - h->line_start;
    h->line_start = h->scanned = lf + 1;
    if (len == 0 || line[len - 1] != '\r') {
        refuse(h, 400, "a line does not end in CRLF");
        return;
    }
    len--;
    if (h->stage == STAGE_FIELDS) {
        if (len > 0) {
            scan_field(h, line, len);
        } else {
            h->head_bytes = h->line_start;
            if (check_head(h)) {
                parse_head(h);
            }
        }
    } else if (len > 0) {
        h->line_count = 0;
        if (scan_request_line(h, line, len)) {
            h->stage = STAGE_FIELDS;
        }
    } else if (++h->line_count > EMPTY_LINES_MAX) {
        refuse(h, 400, "empty lines before the request line");
    } else {
        h->head_start = h->line_start;
    }
}

/* The line runs up to `end`, where its LF is or the bytes end. */
static bool check_line(struct http *h, size_t end)
{
    size_t len = end - h->line_start;
    size_t head_len = end - h->head_start;
    size_t head_max = h->limits->head_bytes;
    if (h->stage == STAGE_START) {
        size_t line_max = h->limits->request_line_bytes;
        char first = len > 0 ? h->in.data[h->line_start] : '\r';
        if (first != '\r' && !is_class(first, TOKEN)) {
            return refuse(h, 400, "malformed request line");
        }
        /* The CR may be among the bytes. */
        return len <= (line_max < head_max ? line_max : head_max) + 1 ||
               refuse(h, 414, "request line too long");
    }
    if (len > h->limits->field_bytes + 1) {
        return refuse(h, 431, "header field too long");
    }
    return head_len < head_max || refuse(h, 431, "head too long");
}

static void scan_head(struct http *h)
{
    while (h->stage < STAGE_BODY) {
        size_t unscanned = h->in.len - h->scanned;
        const char *lf = unscanned ? memchr(h->in.data + h->scanned, '\n', unscanned) : NULL;
        size_t end = lf ? (size_t)(lf - h->in.data) : h->in.len;
        h->scanned = end;
        if (!check_line(h, end) || lf == NULL) {
            return;
        }
        take_line(h, end);
    }
}

/* ---- public ---- */

static void begin_request(struct http *h)
{
    const struct http_text none = {0, 0};
    h->head_bytes = h->parsed = 0;
    h->method = h->target = h->path = h->query = h->host = h->coding = none;
    h->version_minor = 1;
    h->is_head = h->keep_alive = h->expects_continue = h->has_body = h->chunked = false;
    h->content_length = 0;
    h->header_count = 0;
    h->refusal_status = 0;
    h->refusal_reason = NULL;
    h->stage = STAGE_START;
    h->scanned = h->line_start = h->head_start = h->window_start = 0;
    h->line_count = h->seen = 0;
    h->asks_close = h->asks_keep_alive = h->asks_continue = h->authority_in_target = false;
    h->window_offset = h->gap_start = 0;
    h->last_byte = 0;
}

void http_init(struct http *h, const struct http_limits *limits)
{
    h->limits = limits;
    h->in = (struct buf){0};
    body_init(&h->body, limits->body_memory_bytes, limits->tmp_dir);
    begin_request(h);
}

void http_fini(struct http *h)
{
    buf_fini(&h->in);
    body_fini(&h->body);
}

void http_reset(struct http *h)
{
    buf_consume(&h->in, h->parsed);
    if (h->in.cap > KEPT_BUFFER_BYTES && h->in.len <= KEPT_BUFFER_BYTES) {
        h->in.data = xrealloc(h->in.data, KEPT_BUFFER_BYTES);
        h->in.cap = KEPT_BUFFER_BYTES;
    }
    body_reset(&h->body);
    begin_request(h);
}

/* The whole buffer is bounded while a body comes: a power of two, as buf_reserve() makes them. */
static size_t body_room(const struct http *h)
{
    uint64_t left = h->chunked ? UINT64_MAX : h->content_length - h->body.length;
    size_t most =
        h->in.len + ROOM_BYTES < BODY_BUFFER_BYTES ? BODY_BUFFER_BYTES - h->in.len : ROOM_BYTES;
    return left < most ? (size_t)left : most;
}

char *http_room(struct http *h, size_t *room_bytes)
{
    if (h->in.cap == 0) {
        buf_reserve(&h->in, FIRST_BUFFER_BYTES);
    } else if (h->stage == STAGE_BODY) {
        buf_reserve(&h->in, body_room(h));
    } else if (h->in.cap == h->in.len) {
        buf_reserve(&h->in, ROOM_BYTES);
    }
    *room_bytes = h->in.cap - h->in.len;
    return h->in.data + h->in.len;
}

enum http_result http_feed(struct http *h, size_t received)
{
    assert(received <= h->in.cap - h->in.len);
    h->in.len += received;
    if (h->stage < STAGE_BODY) {
        scan_head(h);
    }
    if (h->stage == STAGE_BODY && h->in.len > h->parsed) {
        parse_body(h);
    }
    switch ((enum stage)h->stage) {
    case STAGE_START:
    case STAGE_FIELDS:
    case STAGE_BODY:
        return HTTP_MORE;
    case STAGE_READY:
        return HTTP_READY;
    case STAGE_REFUSED:
        break;
    }
    return HTTP_REFUSED;
}

bool http_is_idle(const struct http *h)
{
    return h->stage == STAGE_START && h->in.len == h->line_start;
}

bool http_in_body(const struct http *h)
{
    return h->stage == STAGE_BODY;
}

size_t http_decode(const char *path, size_t len, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int high = -1, low = -1;
        if (path[i] == '%' && len - i > 2) {
            high = hex_digit(path[i + 1]);
            low = hex_digit(path[i + 2]);
        }
        if (high >= 0 && low >= 0) {
            out[n++] = (char)(high << 4 | low);
            i += 2;
        } else {
            out[n++] = path[i];
        }
    }
    return n;
}
