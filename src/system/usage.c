/* usage.c: memory of a process, from /proc. Layer 1.
 *
 * Owns nothing. Reads statm, which any user may, for virtual and resident size, and smaps_rollup,
 * for which the kernel walks the page tables, for private and shared memory. Never fails: what
 * cannot be read, as of a process that has ended, is 0. */
#include "system/usage.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

static FILE *open_of(pid_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return fopen(path, "re");
}

static void read_statm(pid_t pid, struct usage *usage)
{
    uint64_t pages = 0, resident = 0, page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    FILE *file = open_of(pid, "statm");
    if (!file)
        return;
    if (fscanf(file, "%" SCNu64 " %" SCNu64, &pages, &resident) == 2) {
        usage->virtual_bytes = pages * page_bytes;
        usage->resident_bytes = resident * page_bytes;
    }
    fclose(file);
}

static void read_rollup(pid_t pid, struct usage *usage)
{
    char line[256];
    uint64_t kib;
    FILE *file = open_of(pid, "smaps_rollup");
    if (!file)
        return;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "Pss: %" SCNu64, &kib) == 1)
            usage->pss_bytes = kib * 1024;
        else if (sscanf(line, "Private_Clean: %" SCNu64, &kib) == 1 ||
                 sscanf(line, "Private_Dirty: %" SCNu64, &kib) == 1)
            usage->private_bytes += kib * 1024;
        else if (sscanf(line, "Anonymous: %" SCNu64, &kib) == 1)
            usage->anonymous_bytes = kib * 1024;
        /* The kernel counts anonymous pages as dirty, and those of mapped files as clean. */
        else if (sscanf(line, "Shared_Dirty: %" SCNu64, &kib) == 1)
            usage->still_shared_bytes = kib * 1024;
    }
    fclose(file);
}

struct usage usage_read(pid_t pid)
{
    struct usage usage = {0};
    read_statm(pid, &usage);
    read_rollup(pid, &usage);
    return usage;
}
