/* fuzz_proxy.c: any bytes as the beginning of a balancer's connection. However they are split, the
 * header is the same, and never longer than what was there. */
#include "fuzz.h"
#include "http/proxy.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

/* Enough for all that is not skipped as a whole. */
#define BEGINNINGS_MAX 280

static void require_client(const struct proxy_header *header)
{
    char text[INET6_ADDRSTRLEN];
    int family = header->client.any.sa_family;
    require(family == AF_INET || family == AF_INET6);
    const void *address = family == AF_INET ? (const void *)&header->client.v4.sin_addr
                                            : (const void *)&header->client.v6.sin6_addr;
    require(inet_ntop(family, address, text, sizeof(text)) != NULL);
}

/* Both are exact copies, so that a read behind the end is seen. */
static enum proxy_result parse(unsigned versions, const uint8_t *data, size_t size,
                               struct proxy_header *header)
{
    char *exact = malloc(size ? size : 1);
    require(exact != NULL);
    memcpy(exact, data, size);
    enum proxy_result result = proxy_parse(versions, exact, size, header);
    free(exact);
    return result;
}

static void require_same_beginnings(unsigned versions, const uint8_t *data, size_t size,
                                    enum proxy_result whole, const struct proxy_header *header)
{
    struct proxy_header part;
    for (size_t i = 0; i < size && i < BEGINNINGS_MAX; i++) {
        enum proxy_result result = parse(versions, data, i, &part);
        if (whole == PROXY_MORE || (whole == PROXY_DONE && i < header->bytes))
            require(result == PROXY_MORE);
        else if (whole == PROXY_DONE)
            require(result == PROXY_DONE && memcmp(&part, header, sizeof(part)) == 0);
        else
            require(result != PROXY_DONE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header header;
    for (unsigned versions = 0; versions <= 3; versions++) {
        enum proxy_result result = parse(versions, data, size, &header);
        require(versions != 0 || size == 0 || result == PROXY_WRONG);
        require(result != PROXY_DONE ||
                (header.bytes >= 15 && header.bytes <= size && header.bytes <= PROXY_MAX_BYTES));
        require(result != PROXY_MORE || size < PROXY_MAX_BYTES);
        if (result == PROXY_DONE && header.has_client)
            require_client(&header);
        if (versions == 3)
            require_same_beginnings(versions, data, size, result, &header);
    }
    return 0;
}
