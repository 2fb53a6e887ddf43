/* cgroup.c: what the control groups of this process allow it.
 *
 * Owns nothing. In a container the path in /proc may be the host's, and of its directories only
 * the mount's root exists: so every directory on the way up is tried. */
#include "base/cgroup.h"

#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Version 1 writes "no limit" as the largest number of pages. */
#define NO_LIMIT_BYTES (1ULL << 60)

/* One directory of a group: looked at for its own sake, `result` is of all directories so far. */
typedef void (*looker)(const char *directory, bool is_v2, void *result);

/* ---- finding the directories ---- */

static void look_at_all(const char *mount, const char *group, bool is_v2, looker look, void *result)
{
    char *directory = xasprintf("%s%s", mount, group);
    size_t end = strlen(directory), root = strlen(mount);
    while (end > root && directory[end - 1] == '/')
        directory[--end] = '\0';
    look(directory, is_v2, result);
    while (end > root) {
        while (directory[--end] != '/')
            ;
        directory[end] = '\0';
        look(directory, is_v2, result);
    }
    free(directory);
}

/* `line` is one of /proc/self/cgroup: "0::/path" for v2, "4:cpu,cpuacct:/path" for v1. */
static void look_at_line(const char *root, char *line, const char *controller, looker look,
                         void *result)
{
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group || group[1] != '/')
        return;
    *group++ = '\0';
    bool is_v2 = strcmp(line, "0:") == 0, is_named = false;
    for (char *rest = controllers + 1; rest && !is_named;)
        is_named = strcmp(strsep(&rest, ","), controller) == 0;
    if (!is_v2 && !is_named)
        return;
    char *mount =
        xasprintf("%s/sys/fs/cgroup%s%s", root, is_v2 ? "" : "/", is_v2 ? "" : controller);
    look_at_all(mount, group, is_v2, look, result);
    free(mount);
}

static void look_at_groups(const char *root, const char *controller, looker look, void *result)
{
    char *path = xasprintf("%s/proc/self/cgroup", root), *line = NULL;
    FILE *file = fopen(path, "re");
    size_t size = 0;
    while (file && getline(&line, &size, file) > 0)
        look_at_line(root, line, controller, look, result);
    if (file)
        fclose(file);
    free(line);
    free(path);
}

/* ---- reading one directory ---- */

/* The numbers that the file begins with; the count of those that are there. "max" is none. */
static int read_numbers(const char *directory, const char *name, double numbers[2])
{
    char *path = xasprintf("%s/%s", directory, name);
    FILE *file = fopen(path, "re");
    int count = file ? fscanf(file, "%lf %lf", &numbers[0], &numbers[1]) : 0;
    if (file)
        fclose(file);
    free(path);
    return count < 0 ? 0 : count;
}

static uint64_t read_bytes(const char *directory, const char *name)
{
    double numbers[2];
    bool is_read = read_numbers(directory, name, numbers) > 0;
    return is_read && numbers[0] > 0 && numbers[0] < (double)NO_LIMIT_BYTES ? (uint64_t)numbers[0]
                                                                            : 0;
}

/* The value of the line "NAME VALUE" of memory.stat; 0: there is none. */
static uint64_t read_stat(const char *directory, const char *name)
{
    char *path = xasprintf("%s/memory.stat", directory), key[64];
    FILE *file = fopen(path, "re");
    uint64_t value = 0, found = 0;
    while (file && fscanf(file, "%63s %" SCNu64, key, &value) == 2)
        if (strcmp(key, name) == 0)
            found = value;
    if (file)
        fclose(file);
    free(path);
    return found;
}

/* ---- CPUs ---- */

static void look_at_quota(const char *directory, bool is_v2, void *result)
{
    double numbers[2], period[2], *cpus = result;
    bool has_both = is_v2 ? read_numbers(directory, "cpu.max", numbers) == 2
                          : read_numbers(directory, "cpu.cfs_quota_us", numbers) > 0 &&
                                read_numbers(directory, "cpu.cfs_period_us", period) > 0;
    if (!has_both)
        return;
    double quota = numbers[0], of = is_v2 ? numbers[1] : period[0];
    if (quota > 0 && of > 0 && quota / of < *cpus)
        *cpus = quota / of;
}

double cgroup_cpus(const char *root, double most)
{
    double cpus = most;
    look_at_groups(root, "cpu", look_at_quota, &cpus);
    return cpus;
}

unsigned cgroup_usable_cpus(void)
{
    cpu_set_t sets[8]; /* the kernel refuses a set smaller than its own, up to 8192 CPUs */
    double cpus = (double)sysconf(_SC_NPROCESSORS_ONLN);
    if (sched_getaffinity(0, sizeof sets, sets) == 0)
        cpus = CPU_COUNT_S(sizeof sets, sets);
    cpus = cgroup_cpus("", cpus);
    unsigned whole = (unsigned)cpus;
    return whole + (cpus > (double)whole);
}

/* ---- memory ---- */

static uint64_t room(const struct cgroup_memory *m)
{
    return m->limit_bytes > m->used_bytes ? m->limit_bytes - m->used_bytes : 0;
}

static uint64_t read_limit(const char *directory, bool is_v2)
{
    uint64_t most = read_bytes(directory, is_v2 ? "memory.max" : "memory.limit_in_bytes");
    uint64_t high = is_v2 ? read_bytes(directory, "memory.high") : 0; /* slow from there on */
    return high && (!most || high < most) ? high : most;
}

static void look_at_memory(const char *directory, bool is_v2, void *result)
{
    struct cgroup_memory *tightest = result, here = {.limit_bytes = read_limit(directory, is_v2)};
    if (here.limit_bytes == 0)
        return;
    uint64_t used = read_bytes(directory, is_v2 ? "memory.current" : "memory.usage_in_bytes");
    uint64_t idle = read_stat(directory, is_v2 ? "inactive_file" : "total_inactive_file");
    here.used_bytes = used > idle ? used - idle : 0;
    if (tightest->limit_bytes == 0 || room(&here) < room(tightest))
        *tightest = here;
}

struct cgroup_memory cgroup_memory(const char *root)
{
    struct cgroup_memory memory = {0};
    look_at_groups(root, "memory", look_at_memory, &memory);
    return memory;
}
