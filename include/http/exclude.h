/* exclude.h: which requests the access log leaves out, by path and status.
 *
 * A rule is a path, statuses, or a path, a blank and statuses: "/healthz", "2xx,304",
 * "/healthz 2xx". The path is a prefix that ends where a segment does, compared as the client
 * sent it. A request is left out when one rule fits it; all parts of the rule must. */
#ifndef MYSERVER_HTTP_EXCLUDE_H
#define MYSERVER_HTTP_EXCLUDE_H

#include "base/base.h"

#include <stdbool.h>

struct request;
struct exclude; /* compiled, opaque */

/* Whether `rule` is one. */
bool exclude_is_rule(const char *rule);
/* NULL when there is no rule. They are borrowed, and right. */
struct exclude *exclude_compile(char *const *rules, size_t count);
void exclude_free(struct exclude *exclude);
/* `request` as in struct access_entry. NULL leaves nothing out. Any thread. */
bool exclude_fits(const struct exclude *exclude, const struct request *request, unsigned status);

#endif
