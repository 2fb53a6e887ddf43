/* upkeep.c: what the master looks at once a second, where the settings ask for it.
 *
 * Owns the state of the files at the last look. Uses stat(2): the kernel's notifications do not
 * come for network file systems and mounts of containers, and miss a symbolic link that is changed.
 * A thousand source files cost about 3 ms, and only in development.
 *
 * Never reads a file, never starts or ends a process: it notes in the book that a reload is
 * wanted, or that a worker is to be replaced. Runs in the master only. */
#include "master/upkeep.h"

#include "base/log.h"
#include "config/settings.h"
#include "event.h"
#include "master/book.h"
#include "shared/board.h"
#include "system/usage.h"

#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_MS         1000
#define MEMORY_EVERY    5 /* looks; for each, the kernel walks all pages of the worker */
#define SOURCE_MOST     100000
#define HASH_START      14695981039346656037ull
#define HASH_MULTIPLIER 1099511628211ull

/* ---- files to touch ---- */

static struct upkeep_stamp stamp_of(const char *path)
{
    struct stat file;
    if (stat(path, &file) != 0)
        return (struct upkeep_stamp){0};
    return (struct upkeep_stamp){true, file.st_ino, file.st_size, file.st_mtim};
}

static bool is_same(const struct upkeep_stamp *a, const struct upkeep_stamp *b)
{
    return a->exists == b->exists && a->inode == b->inode && a->bytes == b->bytes &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static void look_at_touched(struct book *b)
{
    const struct config_list *files = &b->config->touch_reload;
    for (size_t i = 0; i < files->count; i++) {
        struct upkeep_stamp now = stamp_of(files->items[i]);
        bool touched = now.exists && !is_same(&now, &b->upkeep.stamps[i]);
        b->upkeep.stamps[i] = now;
        if (touched) {
            log_info("%s was touched", files->items[i]);
            b->reload_wanted = true;
        }
    }
}

/* ---- source files ---- */

static uint64_t mix(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ bytes[i]) * HASH_MULTIPLIER;
    return hash;
}

static uint64_t digest_of(const FTSENT *entry)
{
    const struct stat *file = entry->fts_statp;
    uint64_t hash = mix(HASH_START, entry->fts_path, entry->fts_pathlen);
    hash = mix(hash, &file->st_mtim, sizeof file->st_mtim);
    hash = mix(hash, &file->st_size, sizeof file->st_size);
    return mix(hash, &file->st_ino, sizeof file->st_ino);
}

/* Directories that are not looked into: hidden ones, caches, node_modules, virtualenvs. */
static bool is_skipped(const FTSENT *entry)
{
    char marker[4096];
    if (entry->fts_level == FTS_ROOTLEVEL)
        return false;
    if (entry->fts_name[0] == '.' || strcmp(entry->fts_name, "__pycache__") == 0 ||
        strcmp(entry->fts_name, "node_modules") == 0)
        return true;
    snprintf(marker, sizeof marker, "%s/pyvenv.cfg", entry->fts_path);
    return access(marker, F_OK) == 0;
}

static bool is_source(const FTSENT *entry)
{
    size_t len = entry->fts_namelen;
    return len > 3 && strcmp(entry->fts_name + len - 3, ".py") == 0;
}

/* A sum over all files, so that the order in which a directory lists them does not matter. */
static uint64_t digest_sources(const struct config *c)
{
    char here[] = ".";
    char **roots = xcalloc(c->pythonpath.count + 2, sizeof *roots);
    roots[0] = here;
    for (size_t i = 0; i < c->pythonpath.count; i++)
        roots[i + 1] = c->pythonpath.items[i];
    uint64_t sum = 0;
    unsigned seen = 0;
    FTS *tree = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    FTSENT *entry;
    while (tree != NULL && seen < SOURCE_MOST && (entry = fts_read(tree)) != NULL) {
        seen++;
        if (entry->fts_info == FTS_D && is_skipped(entry))
            fts_set(tree, entry, FTS_SKIP);
        else if (entry->fts_info == FTS_F && is_source(entry))
            sum += digest_of(entry);
    }
    if (tree != NULL)
        fts_close(tree);
    free(roots);
    return sum;
}

static void look_at_sources(struct book *b)
{
    uint64_t now = digest_sources(b->config);
    if (now == b->upkeep.sources)
        return;
    b->upkeep.sources = now;
    log_info("the code has changed");
    b->reload_wanted = true;
}

/* ---- memory ---- */

/* Retires the worker when two samples in a row are above the limit: one alone may have been taken
 * in the middle of a large request. */
static void look_at_memory(struct book *b, struct slot *s)
{
    uint64_t limit = atomic_load(&book_shown(b, s)->max_memory_bytes);
    if (s->state != SLOT_SERVING || limit == 0 || s->retire != BOARD_RETIRE_NOT)
        return;
    uint64_t bytes = usage_read(s->pid).private_bytes;
    bool heavy = bytes > limit;
    if (heavy && s->heavy) {
        log_info("worker %u (pid %d) has %.1f MB of private memory", book_number(b, s), s->pid,
                 (double)bytes / (1 << 20));
        event_retire(b, s, BOARD_RETIRE_MEMORY);
    }
    s->heavy = heavy;
}

/* ---- life ---- */

void upkeep_init(struct upkeep *u, const struct config *c)
{
    *u = (struct upkeep){.due_ms = BOOK_NEVER};
    u->stamps = xcalloc(c->touch_reload.count, sizeof *u->stamps);
    for (size_t i = 0; i < c->touch_reload.count; i++)
        u->stamps[i] = stamp_of(c->touch_reload.items[i]);
    if (c->reload)
        u->sources = digest_sources(c);
}

void upkeep_fini(struct upkeep *u)
{
    free(u->stamps);
}

static void schedule(struct book *b)
{
    bool needed = b->config->reload || b->config->touch_reload.count > 0;
    for (unsigned i = 0; i < b->board->workers && !needed; i++)
        needed = atomic_load(&b->board->worker[i].max_memory_bytes) > 0;
    if (!needed || b->stop != STOP_NOT)
        b->upkeep.due_ms = BOOK_NEVER;
    else if (b->upkeep.due_ms == BOOK_NEVER)
        b->upkeep.due_ms = now_ms() + LOOK_MS;
}

void upkeep_look(struct book *b)
{
    schedule(b);
    if (now_ms() < b->upkeep.due_ms)
        return;
    b->upkeep.due_ms = now_ms() + LOOK_MS;
    b->upkeep.looks++;
    look_at_touched(b);
    if (b->config->reload)
        look_at_sources(b);
    for (unsigned i = 0; i < b->board->workers && b->upkeep.looks % MEMORY_EVERY == 0; i++)
        look_at_memory(b, &b->slots[i]);
}
