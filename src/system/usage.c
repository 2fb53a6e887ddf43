/* usage.c: memory of a process and time of threads, from /proc.
 *
 * Owns nothing. Reads statm, which any user may, for virtual and resident size, and smaps_rollup,
 * for which the kernel walks the page tables, for private and shared memory. Never fails: what
 * cannot be read, as of a process that has ended, is 0. */
#include "system/usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
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
    while (fgets(line, sizeof line, file))
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
    fclose(file);
}

struct usage usage_read(pid_t pid)
{
    struct usage usage = {0};
    read_statm(pid, &usage);
    read_rollup(pid, &usage);
    return usage;
}

/* Reads a number and the blank behind it; false: there is none. */
static bool read_number(const char **text, uint64_t *number)
{
    const char *begin = *text;
    *number = 0;
    for (; **text >= '0' && **text <= '9'; (*text)++)
        *number = *number * 10 + (uint64_t)(**text - '0');
    bool is_there = *text > begin;
    *text += **text == ' ';
    return is_there;
}

/* Reads the file `schedstat` of a thread; false: it does not say what is asked for. */
static bool read_schedstat(const char *path, uint64_t *cpu_ns, uint64_t *delay_ns)
{
    char room[64] = "";
    const char *text = room;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t len = read(fd, room, sizeof(room) - 1);
        room[len > 0 ? len : 0] = '\0';
        close(fd);
    }
    return read_number(&text, cpu_ns) && read_number(&text, delay_ns);
}

void usage_of_thread(uint64_t *cpu_ns, uint64_t *delay_ns)
{
    struct timespec ts;
    if (read_schedstat("/proc/thread-self/schedstat", cpu_ns, delay_ns))
        return;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts); /* a kernel without schedstat */
    *cpu_ns = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
    *delay_ns = 0;
}

void usage_of_threads(pid_t pid, uint64_t *cpu_ns, uint64_t *delay_ns)
{
    char path[320];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    struct dirent *task;
    *cpu_ns = *delay_ns = 0;
    while (tasks && (task = readdir(tasks))) {
        uint64_t cpu = 0, delay = 0;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", (int)pid, task->d_name);
        if (task->d_name[0] != '.' && read_schedstat(path, &cpu, &delay)) {
            *cpu_ns += cpu;
            *delay_ns += delay;
        }
    }
    if (tasks)
        closedir(tasks);
}
