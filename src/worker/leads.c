/* leads.c: which thread of the worker leads its loop. Owns one word of each thread. */
#include "leads.h"

static _Thread_local bool this_thread_leads;

void leads_set(bool leads)
{
    this_thread_leads = leads;
}

bool leads(void)
{
    return this_thread_leads;
}
