/* advice.h: what the numbers say about the settings. */
#ifndef MYSERVER_CONTROL_ADVICE_H
#define MYSERVER_CONTROL_ADVICE_H

#include "base/buf.h"
#include "stats.h"

/* All that there is to advise now, as JSON: for each advice its name, the setting that would change
 * it ("" where none would), the number that it goes by, and sentences. */
void advice_json(const struct stats_facts *facts, struct buf *out);

#endif
