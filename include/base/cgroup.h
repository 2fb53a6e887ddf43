/* cgroup.h: what the control groups of this process allow it: version 1, version 2, and machines
 * that have both. Of a group and all groups that it is in, each limit applies.
 *
 * `root` is put before /proc and /sys: "" is this machine, a test gives a directory. Nothing here
 * fails: what cannot be read limits nothing. Any thread.
 *
 * Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst. */
#ifndef MYSERVER_BASE_CGROUP_H
#define MYSERVER_BASE_CGROUP_H

#include "base/base.h"

struct cgroup_memory {
    uint64_t limit_bytes; /* 0: there is no limit */
    /* What the kernel cannot get back before it ends a process: without the file pages that nobody
     * has used lately. A page that several processes of the group share counts once. */
    uint64_t used_bytes;
};

/* The CPUs that the smallest quota allows; `most` when that is less, or no quota is set. */
double cgroup_cpus(const char *root, double most);
/* The CPUs that this process can use, of this machine: those that it may run on (CPU affinity), as
 * far as the quota allows; a part of one counts as one. */
unsigned cgroup_usable_cpus(void);
/* Of the groups with a limit (memory.max or memory.high) the one that has least room left. */
struct cgroup_memory cgroup_memory(const char *root);

#endif
