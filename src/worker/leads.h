/* leads.h: which thread of the worker leads its loop. Headers of this folder say "Leader" where a
 * function is for that thread alone; assert_leads() says it in the code. */
#ifndef MYSERVER_WORKER_LEADS_H
#define MYSERVER_WORKER_LEADS_H

#include "base/base.h"

#include <stdbool.h>

/* By the pool, around the time in which the calling thread leads; and by the worker's main thread
 * before and after the pool serves, when there is no other. */
void leads_set(bool leads);
/* Whether the calling thread leads. */
bool leads(void);

#define assert_leads() assert(leads())

#endif
