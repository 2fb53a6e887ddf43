/* select.h: which form of a file, and which part of it, answers a request: preconditions and ranges
 * (RFC 9110 13 and 14), content codings (12.5.3). Texts are field values as sent; {NULL, 0} where
 * the field is missing. Reads no file. */
#ifndef MYSERVER_HTTP_SELECT_H
#define MYSERVER_HTTP_SELECT_H

#include "base/base.h"
#include "base/text.h"

#include <stdbool.h>
#include <time.h>

#define SELECT_RANGES_MAX 8
#define SELECT_ETAG_MAX   64

/* What the request says. */
struct select_request {
    struct text if_match, if_none_match, if_modified_since, if_unmodified_since, if_range, range;
};

/* What the file is. */
struct select_file {
    char etag[SELECT_ETAG_MAX]; /* with its quotes; a strong one */
    time_t modified;
    uint64_t bytes;
};

enum select_verdict {
    SELECT_WHOLE,         /* 200 */
    SELECT_RANGES,        /* 206: `ranges` */
    SELECT_NOT_MODIFIED,  /* 304 */
    SELECT_FAILED,        /* 412 */
    SELECT_UNSATISFIABLE, /* 416 */
};

struct select_range {
    uint64_t offset, bytes; /* bytes > 0 */
};

struct select_ranges {
    struct select_range items[SELECT_RANGES_MAX];
    unsigned count;
};

/* In the order of RFC 9110 13.2.2. For GET and HEAD; a range counts only for GET. */
enum select_verdict select_part(const struct select_request *request, bool is_get,
                                const struct select_file *file, struct select_ranges *ranges);

/* Codings in the order in which the server likes them. */
enum select_coding { CODING_BROTLI, CODING_ZSTD, CODING_GZIP, CODING_COUNT, CODING_IDENTITY };
extern const char *const select_coding_names[CODING_COUNT];    /* "br", for Content-Encoding */
extern const char *const select_coding_suffixes[CODING_COUNT]; /* ".br", of the file's name */
/* The coding that the client likes best among those in `there` (bit per coding), the server's
 * favourite where it likes several equally. Identity is always there. */
enum select_coding select_coding_of(struct text accept_encoding, unsigned there);

/* Whether the name of a file has a hash of its content in it, as Django's
 * ManifestStaticFilesStorage writes it: "base.0123456789ab.css". Such a file never changes. */
bool select_is_immutable(const char *path);

#endif
