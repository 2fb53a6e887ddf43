/* memory.h: how much memory the processes of a running server use, as a table. */
#ifndef MYSERVER_CONTROL_MEMORY_H
#define MYSERVER_CONTROL_MEMORY_H

#include <stdio.h>

/* --memory-report: writes a table of the server whose master is the process of this number to
 * `out`. When there is no such server, or its memory may not be read: one sentence on stderr, exit
 * status EXIT_CONFIG. */
void memory_report(const char *pid, FILE *out);

#endif
