/* memory.c: how much memory the processes of a running server use, as a table.
 *
 * Owns nothing that lasts. Reads /proc of the server's processes, from another process. Of the
 * sizes only PSS can be added up, since the workers share most of their pages: adding up resident
 * sizes would count the application once for every worker. */
#include "control/memory.h"

#include "base/base.h"
#include "system/usage.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROCESSES_MAX 512
#define TITLE_WIDTH   44

struct process {
    pid_t pid;
    bool is_worker, is_mold;
    char title[TITLE_WIDTH + 1];
    struct usage usage;
};

struct server {
    struct process processes[PROCESSES_MAX];
    size_t count;
};

static double mb(uint64_t bytes)
{
    return (double)bytes / (1024 * 1024);
}

/* ---- one process ---- */

/* The first line, or first argument, of a file of /proc, without line end; "" if unreadable. */
static void read_text(pid_t pid, const char *file_name, char *out, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file_name);
    FILE *file = fopen(path, "re");
    size_t len = file ? fread(out, 1, size - 1, file) : 0;
    if (file)
        fclose(file);
    out[len] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

static pid_t parent_of(pid_t pid)
{
    char text[256];
    int parent = 0;
    read_text(pid, "stat", text, sizeof text);
    const char *after = strrchr(text, ')'); /* the name before it may contain anything */
    return after && sscanf(after, ") %*c %d", &parent) == 1 ? (pid_t)parent : 0;
}

/* ---- the server ---- */

static bool is_part(const struct server *s, pid_t pid)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->processes[i].pid == pid)
            return true;
    return false;
}

/* False when the process has ended meanwhile, its memory may not be read, or the table is full. */
static bool add_process(struct server *s, pid_t pid)
{
    struct process *p = &s->processes[s->count];
    char name[32];
    if (s->count == PROCESSES_MAX)
        return false;
    p->usage = usage_read(pid);
    if (p->usage.pss_bytes == 0)
        return false;
    p->pid = pid;
    read_text(pid, "comm", name, sizeof name);
    read_text(pid, "cmdline", p->title, sizeof p->title);
    p->is_worker = strcmp(name, "myserver:worker") == 0;
    p->is_mold = strcmp(name, "myserver:mold") == 0;
    s->count++;
    return true;
}

/* Adds children of processes that are in the table, also those that the application has started.
 * True when it has added some: call it again, since a child may be listed before its parent. */
static bool add_children(struct server *s)
{
    size_t before = s->count;
    DIR *directory = opendir("/proc");
    struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && !is_part(s, pid) && is_part(s, parent_of(pid)))
            (void)add_process(s, pid);
    }
    if (directory)
        closedir(directory);
    return s->count > before;
}

static pid_t check_master(const char *text)
{
    char *end, name[32];
    long pid = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || pid <= 0 || pid > INT32_MAX)
        die(EXIT_CONFIG,
            "command line: --memory-report: write the process number of a server's master, as "
            "in its first log lines");
    read_text((pid_t)pid, "comm", name, sizeof name);
    if (strcmp(name, "myserver:master") != 0)
        die(EXIT_CONFIG, "command line: --memory-report: process %ld is no master of myserver",
            pid);
    return (pid_t)pid;
}

static int compare_private(const void *a, const void *b)
{
    const struct process *const *x = a, *const *y = b;
    return ((*x)->usage.private_bytes > (*y)->usage.private_bytes) -
           ((*x)->usage.private_bytes < (*y)->usage.private_bytes);
}

/* ---- the report ---- */

static void write_row(FILE *out, const char *title, const char *pid, const struct usage *u)
{
    fprintf(out, "%-*.*s %8s %9.1f %9.1f %9.1f\n", TITLE_WIDTH, TITLE_WIDTH, title, pid,
            mb(u->pss_bytes), mb(u->private_bytes), mb(u->resident_bytes - u->private_bytes));
}

static void write_table(const struct server *s, FILE *out)
{
    uint64_t total = 0;
    fprintf(out, "%-*s %8s %9s %9s %9s\n", TITLE_WIDTH, "process", "pid", "PSS MB", "private",
            "shared");
    for (size_t i = 0; i < s->count; i++) {
        const struct process *p = &s->processes[i];
        char pid[16];
        snprintf(pid, sizeof pid, "%d", (int)p->pid);
        write_row(out, p->title, pid, &p->usage);
        total += p->usage.pss_bytes;
    }
    fprintf(out, "%-*s %8s %9.1f\n", TITLE_WIDTH, "all", "", mb(total));
}

/* How much of the mold's memory the median worker still shares, not having written to it. */
static void write_sharing(struct process *const *workers, size_t count, const struct process *mold,
                          FILE *out)
{
    const struct process *most = workers[count - 1];
    double whole = mb(mold->usage.anonymous_bytes);
    double kept = mb(workers[count / 2]->usage.still_shared_bytes);
    fprintf(out, "of the mold's %.1f MB it still shares %.1f MB (%.0f %%)\n", whole, kept,
            whole > 0 ? 100 * kept / whole : 0);
    fprintf(out, "the worker with the most of its own is process %d: %.1f MB\n", (int)most->pid,
            mb(most->usage.private_bytes));
}

static void write_summary(struct server *s, FILE *out)
{
    struct process *workers[PROCESSES_MAX];
    const struct process *mold = NULL;
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct process *p = &s->processes[i];
        if (p->is_worker)
            workers[count++] = p;
        else if (p->is_mold)
            mold = p;
    }
    if (count == 0)
        return;
    qsort(workers, count, sizeof workers[0], compare_private);
    fprintf(out, "\na further worker costs about %.1f MB: what the median one has of its own\n",
            mb(workers[count / 2]->usage.private_bytes));
    if (mold)
        write_sharing(workers, count, mold, out);
}

void memory_report(const char *pid, FILE *out)
{
    static struct server server; /* too large for a stack, used once */
    pid_t master = check_master(pid);
    if (!add_process(&server, master))
        die(EXIT_CONFIG,
            "command line: --memory-report: the memory of process %d cannot be read: ask as the "
            "user that the server runs as, or as root",
            (int)master);
    while (add_children(&server))
        continue;
    write_table(&server, out);
    write_summary(&server, out);
}
