/* trace.h: the trace that a request belongs to (W3C Trace Context). Bytes only. */
#ifndef MYSERVER_HTTP_TRACE_H
#define MYSERVER_HTTP_TRACE_H

#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

#define TRACE_ID_BYTES   16
#define TRACE_SPAN_BYTES 8
#define TRACE_ID_TEXT    (2 * TRACE_ID_BYTES)
#define TRACE_TEXT       55 /* "00-" id "-" span "-" flags */

struct trace {
    uint8_t id[TRACE_ID_BYTES]; /* all zero: none */
    uint8_t span[TRACE_SPAN_BYTES];
    uint8_t flags;
};

/* Reads the value of a traceparent header; false: it is malformed, or means nothing. */
MUST_CHECK bool trace_parse(struct trace *trace, struct text value);
/* A trace that begins here, not sampled. */
void trace_make(struct trace *trace);
/* Once in each process that makes traces: no two processes make the same. */
void trace_start(void);
/* Writes the value of the header, or the id alone, with a NUL. */
void trace_write(const struct trace *trace, char out[TRACE_TEXT + 1]);
void trace_write_id(const uint8_t id[TRACE_ID_BYTES], char out[TRACE_ID_TEXT + 1]);

#endif
