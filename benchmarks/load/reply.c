/* reply.c: finds the end of a response to GET or POST.
 *
 * Owns the framing (RFC 9112 6.3) as far as a client needs it that trusts its server: it looks at
 * the status, Content-Length, Transfer-Encoding and Connection, and at nothing else. Never keeps
 * the body. */
#include "reply.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

void reply_reset(struct reply *r)
{
    r->part = REPLY_HEAD;
    r->status = 0;
    r->close = false;
    r->left_bytes = r->body_bytes = 0;
    r->line_len = 0;
}

static const char *find_field(const char *head, const char *name)
{
    size_t name_len = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, name_len) == 0 && line[name_len] == ':')
            return line + name_len + 1 + strspn(line + name_len + 1, " \t");
    }
    return NULL;
}

static enum reply_result begin_body(struct reply *r)
{
    const char *connection = find_field(r->line, "Connection");
    const char *coding = find_field(r->line, "Transfer-Encoding");
    const char *length = find_field(r->line, "Content-Length");
    bool old = strncmp(r->line, "HTTP/1.0", 8) == 0;
    if (strncmp(r->line, "HTTP/1.", 7) != 0 || strlen(r->line) < 12)
        return REPLY_BAD;
    r->status = (unsigned)strtoul(r->line + 9, NULL, 10);
    r->close = connection ? strncasecmp(connection, "close", 5) == 0 : old;
    r->line_len = 0;
    if (r->status == 204 || r->status == 304)
        return REPLY_WHOLE;
    if (coding) {
        r->part = REPLY_CHUNK_SIZE;
        return REPLY_MORE;
    }
    r->close |= !length;
    r->part = length ? REPLY_LENGTH : REPLY_EOF;
    r->left_bytes = length ? strtoull(length, NULL, 10) : UINT64_MAX;
    return r->left_bytes ? REPLY_MORE : REPLY_WHOLE;
}

/* One byte of what is collected: the head, a chunk's size line, the trailer. */
static enum reply_result feed_line(struct reply *r, char byte)
{
    if (r->line_len + 1 >= sizeof(r->line))
        return REPLY_BAD;
    r->line[r->line_len++] = byte;
    r->line[r->line_len] = '\0';
    if (byte != '\n')
        return REPLY_MORE;
    if (r->part == REPLY_HEAD)
        return r->line_len >= 4 && strcmp(r->line + r->line_len - 4, "\r\n\r\n") == 0
                   ? begin_body(r)
                   : REPLY_MORE;
    bool empty = r->line_len == 2;
    r->line_len = 0;
    if (r->part == REPLY_TRAILER)
        return empty ? REPLY_WHOLE : REPLY_MORE;
    if (empty) /* behind a chunk */
        return REPLY_MORE;
    r->left_bytes = strtoull(r->line, NULL, 16);
    r->part = r->left_bytes ? REPLY_CHUNK : REPLY_TRAILER;
    return REPLY_MORE;
}

enum reply_result reply_feed(struct reply *r, const char *data, size_t len)
{
    enum reply_result result = REPLY_MORE;
    while (len > 0 && result == REPLY_MORE) {
        size_t used = 1;
        if (r->part == REPLY_LENGTH || r->part == REPLY_CHUNK || r->part == REPLY_EOF) {
            used = len < r->left_bytes ? len : (size_t)r->left_bytes;
            r->left_bytes -= used;
            r->body_bytes += used;
            if (r->left_bytes == 0 && r->part == REPLY_LENGTH)
                result = REPLY_WHOLE;
            else if (r->left_bytes == 0)
                r->part = REPLY_CHUNK_SIZE;
        } else {
            result = feed_line(r, *data);
        }
        data += used;
        len -= used;
    }
    return result == REPLY_WHOLE && len > 0 ? REPLY_BAD : result;
}

bool reply_ends_with_eof(const struct reply *r)
{
    return r->part == REPLY_EOF;
}
