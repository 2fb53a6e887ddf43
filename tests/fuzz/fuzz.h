/* fuzz.h: what all fuzz targets say: what must be true, and that texts of a request lie in its head
 * and are clean. */
#ifndef MYSERVER_FUZZ_H
#define MYSERVER_FUZZ_H

#include "http/request.h"

#include <stdlib.h>

/* What libFuzzer calls. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void require(bool truth)
{
    if (!truth)
        abort();
}

static inline void require_inside(const struct request *r, struct http_text t)
{
    require(t.offset <= r->head_bytes && t.length <= r->head_bytes - t.offset);
    for (size_t i = 0; i < t.length; i++) {
        unsigned char c = (unsigned char)request_at(r, t)[i];
        require(c == '\t' || (c >= 0x20 && c != 0x7f));
    }
}

/* The request line and what was found in it. */
static inline void require_line_inside(const struct request *r)
{
    require_inside(r, r->method);
    require_inside(r, r->target);
    require_inside(r, r->path);
    require_inside(r, r->query);
    require_inside(r, r->host);
    require(r->version_minor <= 1);
    require(r->path.length == 0 || request_at(r, r->path)[0] == '/');
}

#endif
