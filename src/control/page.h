/* page.h: the status page. */
#ifndef MYSERVER_CONTROL_PAGE_H
#define MYSERVER_CONTROL_PAGE_H

#include "base/buf.h"
#include "stats.h"

/* One file of HTML that asks for the other documents by itself; the same for every server. */
void page_html(const struct stats_facts *facts, struct buf *out);

#endif
