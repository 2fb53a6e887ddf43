/* fuzz_response.c: any bytes as what an application hands to start_response. However hostile,
 * the head must have exactly the lines that were accepted, and its framing must be one. */
#include "fuzz.h"
#include "http/response.h"

#include <stdlib.h>
#include <strings.h>

/* Takes what stands before the next 0xff from the input. */
static const char *take(const uint8_t **data, size_t *size, size_t *len)
{
    const uint8_t *start = *data;
    const uint8_t *end = *size ? memchr(start, 0xff, *size) : NULL;
    *len = end ? (size_t)(end - start) : *size;
    *size -= *len + (end ? 1 : 0);
    *data = start + *len + (end ? 1 : 0);
    return (const char *)start;
}

struct tally {
    unsigned lines, lengths, codings, dates, servers;
};

static bool starts(const char *line, const char *name)
{
    return strncasecmp(line, name, strlen(name)) == 0;
}

/* Reads the head as a client does; any bare CR or LF is a forgery. */
static size_t read_head(const struct buf *head, struct tally *tally)
{
    size_t start = 0;
    for (size_t i = 0; i < head->len; i++) {
        const char *line = head->data + start;
        require(head->data[i] != '\0');
        if (head->data[i] != '\r') {
            require(head->data[i] != '\n');
            continue;
        }
        require(i + 1 < head->len && head->data[i + 1] == '\n');
        if (i == start)
            return i + 2;
        tally->lines++;
        tally->lengths += starts(line, "Content-Length:");
        tally->codings += starts(line, "Transfer-Encoding:");
        tally->dates += starts(line, "Date:");
        tally->servers += starts(line, "Server:");
        i++;
        start = i + 1;
    }
    abort();
}

static void check_head(struct response *r, const struct response_facts *facts, unsigned accepted)
{
    struct tally tally = {0};
    response_finish_head(r, facts);
    require(read_head(&r->head, &tally) == r->head.len);
    require(tally.lines <= accepted + 5 && tally.dates == 1 && tally.servers == 1);
    require(tally.lengths + tally.codings <= 1);
    require(tally.codings == (r->framing == RESPONSE_CHUNKED));
    require(r->framing != RESPONSE_LENGTH || tally.lengths == 1);
    require(r->framing != RESPONSE_CHUNKED || facts->version_minor == 1);
    require(r->framing != RESPONSE_TO_CLOSE || !r->keep_alive);
    size_t admitted = response_admit(r, 1000);
    require(admitted <= 1000 && r->body_bytes == admitted);
    require(r->framing != RESPONSE_LENGTH || admitted <= (uint64_t)r->content_length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct response r = {0};
    uint8_t bits = 0;
    if (size > 0) {
        bits = *data++;
        size--;
    }
    const struct response_facts facts = {.is_head = bits & 1,
                                         .version_minor = bits >> 1 & 1,
                                         .keep_alive = bits >> 2 & 1,
                                         .known_bytes = (bits >> 3) - 1};
    size_t len, name_len, value_len;
    unsigned accepted = 0;
    const char *status = take(&data, &size, &len);
    if (response_status(&r, status, len) == RESPONSE_OK) {
        require(r.status >= 200 && r.status <= 599);
        while (size > 0) {
            const char *name = take(&data, &size, &name_len);
            const char *value = take(&data, &size, &value_len);
            accepted += response_header(&r, name, name_len, value, value_len) == RESPONSE_OK;
        }
        check_head(&r, &facts, accepted);
    }
    response_error(&r, 400 + bits % 200, &facts);
    struct tally tally = {0};
    require(read_head(&r.head, &tally) + r.body_bytes == r.head.len);
    response_fini(&r);
    return 0;
}
