/* request.c: what is known of one request. Owns nothing. */
#include "http/request.h"

#include "base/text.h"

void request_forget(struct request *r)
{
    const struct http_text none = {0, 0};
    r->head_bytes = 0;
    r->method = r->target = r->line = r->path = r->query = r->host = none;
    r->version_minor = 1;
    r->is_head = r->keep_alive = r->expects_continue = r->has_body = r->chunked = false;
    r->authority_in_target = r->asks_upgrade = false;
    r->content_length = 0;
    r->header_count = 0;
    r->refusal_status = 0;
    r->refusal_reason = NULL;
    r->refusal_shown = false;
}

struct text request_list(const struct request *r, enum http_field field, const char *name,
                         struct buf *room)
{
    struct text list = {0};
    for (unsigned i = 0; i < r->header_count; i++) {
        struct text value = request_piece(r, r->headers[i].value);
        if (r->headers[i].field != field ||
            (field == HTTP_FIELD_OTHER && name &&
             !text_is_word(request_piece(r, r->headers[i].name), name)))
            continue;
        if (!list.data) {
            list = value;
            continue;
        }
        if (room->len == 0)
            buf_append(room, list.data, list.len);
        buf_append_str(room, ",");
        buf_append(room, value.data, value.len);
        list = (struct text){room->data, room->len};
    }
    return list;
}

bool request_has_login(const struct request *r)
{
    static const char authorization[] = "Authorization";
    for (unsigned i = 0; i < r->header_count; i++) {
        const struct http_header *header = &r->headers[i];
        if (header->field == HTTP_FIELD_COOKIE ||
            (header->name.length == strlen(authorization) &&
             ascii_equal(request_at(r, header->name), authorization, header->name.length)))
            return true;
    }
    return false;
}

static int hex_digit(char c)
{
    if (text_is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t request_decode(const char *path, size_t len, char *out)
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
