/* upkeep.c: files that the master looks at once a second, where the settings ask for it.
 *
 * Owns the state of the files at the last look. Uses stat(2): the kernel's notifications do not
 * come for network file systems and mounts of containers, and miss a symbolic link that is changed.
 *
 * Never reads a file. */
#include "upkeep.h"

#include "base/log.h"
#include "config/settings.h"

#include <stdlib.h>
#include <sys/stat.h>

#define LOOK_MS 1000

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

static bool see_touched(struct upkeep *u, const struct config_list *files)
{
    bool any = false;
    for (size_t i = 0; i < files->count; i++) {
        struct upkeep_stamp now = stamp_of(files->items[i]);
        bool touched = now.exists && !is_same(&now, &u->stamps[i]);
        u->stamps[i] = now;
        if (touched)
            log_info("%s was touched", files->items[i]);
        any |= touched;
    }
    return any;
}

/* ---- life ---- */

void upkeep_init(struct upkeep *u, const struct config *c)
{
    *u = (struct upkeep){.due_ms = UPKEEP_NEVER};
    u->stamps = xcalloc(c->touch_reload.count, sizeof *u->stamps);
    for (size_t i = 0; i < c->touch_reload.count; i++)
        u->stamps[i] = stamp_of(c->touch_reload.items[i]);
}

void upkeep_fini(struct upkeep *u)
{
    free(u->stamps);
}

bool upkeep_is_due(struct upkeep *u, bool is_needed)
{
    uint64_t now = now_ms();
    if (!is_needed) {
        u->due_ms = UPKEEP_NEVER;
        return false;
    }
    bool is_due = now >= u->due_ms;
    if (is_due || u->due_ms == UPKEEP_NEVER)
        u->due_ms = now + LOOK_MS;
    return is_due;
}

bool upkeep_sees_change(struct upkeep *u, const struct config *c)
{
    return see_touched(u, &c->touch_reload);
}
