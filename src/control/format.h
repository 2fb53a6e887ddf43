/* format.h: pieces of the documents that control writes: JSON, and Prometheus's text format. Texts
 * are escaped. */
#ifndef MYSERVER_CONTROL_FORMAT_H
#define MYSERVER_CONTROL_FORMAT_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* A text in quotes. */
void json_quoted(struct buf *out, const char *text);
/* "key":"text"; NULL: the empty text. */
void json_text(struct buf *out, const char *key, const char *text);
/* A comma, unless the item is the first of its list. */
void json_item(struct buf *out, bool *first);
/* ,"key":{"name":value,...} */
void json_members(struct buf *out, const char *key, const char *const *names,
                  const uint64_t *values, size_t count);

/* The two lines before a metric; `type` is counter, gauge or histogram. */
void metric_begin(struct buf *out, const char *name, const char *type, const char *help);
/* A metric with one value. */
void metric(struct buf *out, const char *name, const char *type, const char *help, uint64_t value);
/* name{label="value"; the caller appends "} number". */
void metric_label(struct buf *out, const char *name, const char *label, const char *value);
/* One line for each value of the label. */
void metric_counts(struct buf *out, const char *name, const char *label, const char *const *values,
                   const uint64_t *counts, size_t count);

#endif
