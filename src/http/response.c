/* response.c: one response: its head as bytes, and how its body is framed.
 *
 * Owns the checks that keep an application from forging a head (RFC 9110 5.5, PEP 3333),
 * and the choice of the framing: what the head says about the length is decided here and
 * nowhere else. Headers are written once, into the buffer that they are sent from.
 *
 * Never writes to a socket, never touches a byte of the body, never knows Python. */
#include "http/response.h"

#include "base/date.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* A bit for each byte value; set when RFC 9110 5.6.2 allows it in a token. */
static const uint32_t token_bits[8] = {0, 0x03ff6cfa, 0xc7fffffe, 0x57ffffff};

static bool is_token(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (!(token_bits[c >> 5] >> (c & 31) & 1))
            return false;
    }
    return len > 0;
}

/* No control byte except HTAB: CR or LF would end the line early, and NUL cut it. */
static bool is_text(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (UNLIKELY((c < 0x20 && c != '\t') || c == 0x7f))
            return false;
    }
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* ---- reason phrases and texts of errors ---- */

const char *response_reason(unsigned status)
{
#define REASON(number, text)                                                                       \
    case number:                                                                                   \
        return text;
    switch (status) {
        REASON(100, "Continue")
        REASON(200, "OK")
        REASON(201, "Created")
        REASON(202, "Accepted")
        REASON(203, "Non-Authoritative Information")
        REASON(204, "No Content")
        REASON(205, "Reset Content")
        REASON(206, "Partial Content")
        REASON(300, "Multiple Choices")
        REASON(301, "Moved Permanently")
        REASON(302, "Found")
        REASON(303, "See Other")
        REASON(304, "Not Modified")
        REASON(307, "Temporary Redirect")
        REASON(308, "Permanent Redirect")
        REASON(400, "Bad Request")
        REASON(401, "Unauthorized")
        REASON(403, "Forbidden")
        REASON(404, "Not Found")
        REASON(405, "Method Not Allowed")
        REASON(406, "Not Acceptable")
        REASON(408, "Request Timeout")
        REASON(409, "Conflict")
        REASON(410, "Gone")
        REASON(411, "Length Required")
        REASON(412, "Precondition Failed")
        REASON(413, "Content Too Large")
        REASON(414, "URI Too Long")
        REASON(415, "Unsupported Media Type")
        REASON(416, "Range Not Satisfiable")
        REASON(417, "Expectation Failed")
        REASON(421, "Misdirected Request")
        REASON(422, "Unprocessable Content")
        REASON(426, "Upgrade Required")
        REASON(428, "Precondition Required")
        REASON(429, "Too Many Requests")
        REASON(431, "Request Header Fields Too Large")
        REASON(451, "Unavailable For Legal Reasons")
        REASON(500, "Internal Server Error")
        REASON(501, "Not Implemented")
        REASON(502, "Bad Gateway")
        REASON(503, "Service Unavailable")
        REASON(504, "Gateway Timeout")
        REASON(505, "HTTP Version Not Supported")
        REASON(507, "Insufficient Storage")
        REASON(511, "Network Authentication Required")
    }
#undef REASON
    return "Unknown";
}

const char *response_check_text(enum response_check check)
{
    switch (check) {
    case RESPONSE_OK:
        return "no error";
    case RESPONSE_BAD_STATUS:
        return "status is not three digits from 200 to 599, a blank and text";
    case RESPONSE_BAD_NAME:
        return "header name is not a token";
    case RESPONSE_BAD_VALUE:
        return "header value has control characters";
    case RESPONSE_BAD_LENGTH:
        return "Content-Length is not a decimal number or is given twice";
    case RESPONSE_HOP_BY_HOP:
        return "header is hop-by-hop: the server's to send";
    }
    return "unknown error";
}

const char *response_date(void)
{
    static _Thread_local time_t cached_s;
    static _Thread_local char cached[DATE_HTTP_LEN + 1];
    struct timespec now;
    /* The coarse clock is read in 5 ns and at most 4 ms late. */
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != cached_s || cached[0] == '\0') {
        date_write_http(cached, now.tv_sec);
        cached_s = now.tv_sec;
    }
    return cached;
}

/* ---- the head ---- */

static void put(struct response *r, const char *data, size_t len)
{
    memcpy(r->head.data + r->head.len, data, len);
    r->head.len += len;
}
#define PUT(r, literal) put(r, literal, sizeof(literal) - 1)

static void put_number(struct response *r, uint64_t number)
{
    char digits[20];
    size_t i = sizeof(digits);
    do {
        digits[--i] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put(r, digits + i, sizeof(digits) - i);
}

void response_fini(struct response *r)
{
    buf_fini(&r->head);
}

void response_reset(struct response *r)
{
    *r =
        (struct response){.head = {.data = r->head.data, .cap = r->head.cap}, .content_length = -1};
}

enum response_check response_status(struct response *r, const char *text, size_t len)
{
    assert(!r->head_finished);
    response_reset(r);
    if (len < 4 || !is_digit(text[0]) || !is_digit(text[1]) || !is_digit(text[2]) ||
        text[3] != ' ' || !is_text(text, len))
        return RESPONSE_BAD_STATUS;
    /* 1xx is never final, and 101 would give the application a connection that is the server's. */
    if (text[0] < '2' || text[0] > '5')
        return RESPONSE_BAD_STATUS;
    r->status = (unsigned)((text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0'));
    buf_reserve(&r->head, sizeof("HTTP/1.1 \r\n") + len);
    PUT(r, "HTTP/1.1 ");
    put(r, text, len);
    PUT(r, "\r\n");
    return RESPONSE_OK;
}

enum special { ORDINARY, CONTENT_LENGTH, DATE, SERVER, HOP_BY_HOP };

static enum special special_of(const char *name, size_t len)
{
    static const struct {
        const char *name;
        size_t len;
        enum special special;
    } table[] = {
#define NAMED(text, special) {text, sizeof(text) - 1, special}
        NAMED("content-length", CONTENT_LENGTH),
        NAMED("date", DATE),
        NAMED("server", SERVER),
        NAMED("connection", HOP_BY_HOP),
        NAMED("keep-alive", HOP_BY_HOP),
        NAMED("transfer-encoding", HOP_BY_HOP),
        NAMED("te", HOP_BY_HOP),
        NAMED("trailer", HOP_BY_HOP),
        NAMED("trailers", HOP_BY_HOP),
        NAMED("upgrade", HOP_BY_HOP),
        NAMED("proxy-authenticate", HOP_BY_HOP),
        NAMED("proxy-authorization", HOP_BY_HOP),
        NAMED("proxy-connection", HOP_BY_HOP),
#undef NAMED
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].len == len && (name[0] | 0x20) == table[i].name[0] &&
            ascii_equal(name, table[i].name, len))
            return table[i].special;
    return ORDINARY;
}

static enum response_check take_length(struct response *r, const char *value, size_t len)
{
    int64_t length = 0;
    if (len == 0 || r->content_length >= 0)
        return RESPONSE_BAD_LENGTH;
    for (size_t i = 0; i < len; i++)
        if (!is_digit(value[i]) || __builtin_mul_overflow(length, 10, &length) ||
            __builtin_add_overflow(length, value[i] - '0', &length))
            return RESPONSE_BAD_LENGTH;
    r->content_length = length;
    return RESPONSE_OK;
}

enum response_check response_header(struct response *r, const char *name, size_t name_len,
                                    const char *value, size_t value_len)
{
    assert(r->status != 0 && !r->head_finished);
    if (!is_token(name, name_len))
        return RESPONSE_BAD_NAME;
    if (!is_text(value, value_len))
        return RESPONSE_BAD_VALUE;
    bool *once = NULL;
    switch (special_of(name, name_len)) {
    case ORDINARY:
        break;
    case CONTENT_LENGTH:
        /* Written by response_finish_head, after the choice of the framing: a 204 has none. */
        return take_length(r, value, value_len);
    case DATE:
        once = &r->has_date;
        break;
    case SERVER:
        once = &r->has_server;
        break;
    case HOP_BY_HOP:
        return RESPONSE_HOP_BY_HOP;
    }
    if (once && *once)
        return RESPONSE_OK;
    if (once)
        *once = true;
    buf_reserve(&r->head, name_len + value_len + 4);
    put(r, name, name_len);
    PUT(r, ": ");
    put(r, value, value_len);
    PUT(r, "\r\n");
    return RESPONSE_OK;
}

/* ---- framing ---- */

static void choose_framing(struct response *r, const struct response_facts *facts)
{
    r->keep_alive = facts->keep_alive;
    if (r->status == 204 || r->status == 304) {
        /* RFC 9110 8.6: no Content-Length in a 204, and in a 304 only that of the 200. */
        r->content_length = -1;
        r->framing = RESPONSE_NO_BODY;
    } else if (r->status == 205) {
        /* RFC 9110 15.3.6: no content, which Content-Length: 0 tells. */
        r->content_length = 0;
        r->framing = RESPONSE_NO_BODY;
    } else if (facts->is_head) {
        /* An empty body for HEAD does not mean that GET has one: no length of 0 then. */
        if (r->content_length < 0 && facts->known_bytes > 0)
            r->content_length = facts->known_bytes;
        r->framing = RESPONSE_NO_BODY;
    } else if (r->content_length >= 0 || facts->known_bytes >= 0) {
        if (r->content_length < 0)
            r->content_length = facts->known_bytes;
        r->framing = RESPONSE_LENGTH;
    } else if (facts->version_minor >= 1) {
        r->framing = RESPONSE_CHUNKED;
    } else {
        r->framing = RESPONSE_TO_CLOSE;
        r->keep_alive = false;
    }
}

void response_finish_head(struct response *r, const struct response_facts *facts)
{
    assert(r->status != 0 && !r->head_finished);
    choose_framing(r, facts);
    /* More than the lines below can take. */
    buf_reserve(&r->head, 256);
    if (!r->has_server)
        PUT(r, "Server: myserver\r\n");
    if (!r->has_date) {
        PUT(r, "Date: ");
        put(r, response_date(), DATE_HTTP_LEN);
        PUT(r, "\r\n");
    }
    if (r->content_length >= 0) {
        PUT(r, "Content-Length: ");
        put_number(r, (uint64_t)r->content_length);
        PUT(r, "\r\n");
    } else if (r->framing == RESPONSE_CHUNKED) {
        PUT(r, "Transfer-Encoding: chunked\r\n");
    }
    if (facts->version_minor >= 1 && !r->keep_alive)
        PUT(r, "Connection: close\r\n");
    else if (facts->version_minor == 0 && r->keep_alive)
        PUT(r, "Connection: keep-alive\r\n");
    PUT(r, "\r\n");
    r->head_finished = true;
}

void response_switch(struct response *r)
{
    response_reset(r);
    r->status = 101;
    r->head_finished = true;
    r->framing = RESPONSE_NO_BODY;
}

size_t response_admit(struct response *r, size_t len)
{
    assert(r->head_finished);
    switch (r->framing) {
    case RESPONSE_NO_BODY:
        return 0;
    case RESPONSE_LENGTH: {
        uint64_t left = (uint64_t)r->content_length - r->body_bytes;
        len = len < left ? len : (size_t)left;
        break;
    }
    case RESPONSE_CHUNKED:
    case RESPONSE_TO_CLOSE:
        break;
    }
    r->body_bytes += len;
    return len;
}

bool response_is_complete(const struct response *r)
{
    return r->framing != RESPONSE_LENGTH || r->body_bytes == (uint64_t)r->content_length;
}

size_t response_chunk_head(char out[RESPONSE_CHUNK_HEAD_MAX], size_t len)
{
    size_t digits = 1;
    while (digits < 16 && len >> (4 * digits) != 0)
        digits++;
    for (size_t i = 0; i < digits; i++)
        out[i] = "0123456789abcdef"[len >> (4 * (digits - 1 - i)) & 15];
    out[digits] = '\r';
    out[digits + 1] = '\n';
    return digits + 2;
}

/* ---- the server's own answers ---- */

void response_error(struct response *r, unsigned status, const struct response_facts *facts)
{
    char title[64], page[512];
    int title_len = snprintf(title, sizeof(title), "%03u %s", status, response_reason(status));
    int page_len =
        snprintf(page, sizeof(page),
                 "<!DOCTYPE html>\n<html lang=\"en\">\n<title>%s</title>\n"
                 "<h1>%s</h1>\n%s%s%s</html>\n",
                 title, title, facts->sentence ? "<p>" : "", facts->sentence ? facts->sentence : "",
                 facts->sentence ? "</p>\n" : "");
    struct response_facts own = *facts;
    own.known_bytes = page_len;
    response_reset(r);
    enum response_check status_check = response_status(r, title, (size_t)title_len);
    enum response_check type_check =
        response_header(r, "Content-Type", 12, "text/html; charset=utf-8", 24);
    if (status == 503) /* RFC 9110 15.6.4: overload, which is temporary */
        type_check = response_header(r, "Retry-After", 11, "1", 1);
    assert(status_check == RESPONSE_OK && type_check == RESPONSE_OK);
    response_finish_head(r, &own);
    buf_append(&r->head, page, response_admit(r, (size_t)page_len));
}
