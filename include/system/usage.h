/* usage.h: how much memory a process has, and how much time a thread, as the kernel counts it. */
#ifndef MYSERVER_SYSTEM_USAGE_H
#define MYSERVER_SYSTEM_USAGE_H

#include "base/base.h"

#include <sys/types.h>

struct usage {
    uint64_t virtual_bytes;
    uint64_t resident_bytes;
    uint64_t pss_bytes; /* private pages, and each shared page divided by its number of users */
    uint64_t private_bytes;
    uint64_t anonymous_bytes;    /* not of a file: heaps and stacks */
    uint64_t still_shared_bytes; /* of these, what it still shares with the process it is from */
};

/* Costs 2 ms for a process of 200 MB. What the kernel does not tell is 0: everything for a process
 * that is gone, all but the first two members for a process of another user. */
struct usage usage_read(pid_t pid);
/* What the calling thread has used in its life: time on a CPU, and time in which it was ready and
 * no CPU was free (0 where the kernel does not count that). Costs some 5 us. */
void usage_of_thread(uint64_t *cpu_ns, uint64_t *delay_ns);
/* The same of all threads that a process has now, added up; 0 where the kernel does not tell. Costs
 * some 5 us for each of them. */
void usage_of_threads(pid_t pid, uint64_t *cpu_ns, uint64_t *delay_ns);

#endif
