/* format.c: pieces of documents. Owns nothing. */
#include "format.h"

#include "base/log.h"

#include <inttypes.h>
#include <string.h>

void json_quoted(struct buf *out, const char *text)
{
    buf_append(out, "\"", 1);
    log_escape_json(out, text, strlen(text));
    buf_append(out, "\"", 1);
}

void json_text(struct buf *out, const char *key, const char *text)
{
    buf_printf(out, "\"%s\":", key);
    json_quoted(out, text ? text : "");
}

void json_item(struct buf *out, bool *first)
{
    if (!*first)
        buf_append(out, ",", 1);
    *first = false;
}

void json_members(struct buf *out, const char *key, const char *const *names,
                  const uint64_t *values, size_t count)
{
    buf_printf(out, ",\"%s\":{", key);
    for (size_t i = 0; i < count; i++)
        buf_printf(out, "%s\"%s\":%" PRIu64, i ? "," : "", names[i], values[i]);
    buf_append(out, "}", 1);
}

void metric_begin(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP myserver_%s %s\n# TYPE myserver_%s %s\n", name, help, name, type);
}

void metric(struct buf *out, const char *name, const char *type, const char *help, uint64_t value)
{
    metric_begin(out, name, type, help);
    buf_printf(out, "myserver_%s %" PRIu64 "\n", name, value);
}

void metric_label(struct buf *out, const char *name, const char *label, const char *value)
{
    buf_printf(out, "myserver_%s{%s=\"", name, label);
    for (size_t i = 0, len = strlen(value); i < len;) {
        size_t sequence = log_utf8_length(value + i, len - i);
        unsigned char c = (unsigned char)value[i];
        if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (sequence || (c >= 0x20 && c < 0x7f))
            buf_append(out, value + i, sequence ? sequence : 1);
        else
            buf_append(out, "?", 1);
        i += sequence ? sequence : 1;
    }
    buf_append(out, "\"", 1);
}

void metric_counts(struct buf *out, const char *name, const char *label, const char *const *values,
                   const uint64_t *counts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        metric_label(out, name, label, values[i]);
        buf_printf(out, "} %" PRIu64 "\n", counts[i]);
    }
}
