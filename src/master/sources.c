/* sources.c: the files of the application, for the option `reload`.
 *
 * Owns the inotify descriptor and the sum over all files at the last look. inotify only says when
 * to look: what counts is whether the sum has changed. So an editor may write a file as it likes, a
 * file that is as before starts nothing, and an event that was lost or misunderstood delays a
 * reload and never prevents the next one. Each look watches directories that are new, before it
 * reads them. The files are looked at once a second instead where inotify cannot tell: on file
 * systems of other machines, and when its limits are reached.
 *
 * A thousand files cost about 3 ms a look. Never reads a file. */
#include "sources.h"

#include "base/log.h"
#include "base/text.h"
#include "config/settings.h"
#include "system/process.h"

#include <errno.h>
#include <fts.h>
#include <libgen.h>
#include <linux/magic.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define LOOK_MS   1000 /* by the clock */
#define QUIET_MS  50   /* after the last event: an editor, or git, may not be done */
#define MOST_MS   200  /* after the first event */
#define FILE_MOST 100000

#define EVENTS                                                                                     \
    (IN_ATTRIB | IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |            \
     IN_EXCL_UNLINK | IN_ONLYDIR)

/* ---- which files ---- */

static bool ends_with(const char *name, const char *end)
{
    size_t len = strlen(name), end_len = strlen(end);
    return len > end_len && strcmp(name + len - end_len, end) == 0;
}

static bool has_suffix(const char *name)
{
    static const char *const suffixes[] = {".py", ".html", ".htm", ".djhtml", ".jinja", ".jinja2",
                                           ".j2", ".mako", ".tpl", ".pt",     ".mo"};
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
        if (ends_with(name, suffixes[i]))
            return true;
    return false;
}

static bool is_environment(const char *name)
{
    return strcmp(name, ".env") == 0 || strncmp(name, ".env.", 5) == 0 ||
           strcmp(name, ".flaskenv") == 0;
}

/* What editors leave beside a file while they work on it. */
static bool is_of_editor(const char *name)
{
    return name[0] == '.' || name[0] == '#' || ends_with(name, "~") || ends_with(name, ".tmp");
}

static bool is_source(const char *name, bool of_templates)
{
    return is_environment(name) || (!is_of_editor(name) && (of_templates || has_suffix(name)));
}

/* Directories that are not looked into: hidden ones, caches, node_modules, virtualenvs. */
static bool is_skipped(const FTSENT *entry)
{
    char marker[PATH_MAX];
    if (entry->fts_level == FTS_ROOTLEVEL)
        return false;
    if (entry->fts_name[0] == '.' || strcmp(entry->fts_name, "__pycache__") == 0 ||
        strcmp(entry->fts_name, "node_modules") == 0)
        return true;
    snprintf(marker, sizeof marker, "%s/pyvenv.cfg", entry->fts_path);
    return access(marker, F_OK) == 0;
}

/* In fts_number of a directory: it is one of templates, or lies in one. */
static bool is_of_templates(const FTSENT *directory)
{
    return directory->fts_parent->fts_number || strcmp(directory->fts_name, "templates") == 0 ||
           strcmp(directory->fts_name, "jinja2") == 0;
}

/* ---- inotify ---- */

static void look_by_clock(struct sources *s, const char *why)
{
    log_warning("changes of the code are looked for once a second, not at once: %s", why);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

static void begin_inotify(struct sources *s)
{
    s->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (s->fd < 0 && errno == EMFILE)
        look_by_clock(s, "this user has as many inotify instances as may be; raise it with 'sysctl "
                         "fs.inotify.max_user_instances=1024'");
    else if (s->fd < 0)
        look_by_clock(s, strerror(errno));
}

/* A directory that is gone meanwhile is no failure: its parent tells. */
static void watch(struct sources *s, const char *directory, bool of_templates)
{
    if (s->fd < 0)
        return;
    int number = inotify_add_watch(s->fd, directory, EVENTS);
    if (number < 0 && errno == ENOSPC)
        look_by_clock(s, "this user watches as many directories as may be; raise it with 'sysctl "
                         "fs.inotify.max_user_watches=524288'");
    if (number < 0)
        return;
    if ((size_t)number >= s->watched) {
        size_t room = (size_t)number + 64;
        s->of_templates = xrealloc(s->of_templates, room * sizeof *s->of_templates);
        memset(s->of_templates + s->watched, 0, (room - s->watched) * sizeof *s->of_templates);
        s->watched = room;
    }
    s->of_templates[number] = of_templates;
}

/* The kernel tells only of changes that this machine makes. */
static bool is_of_others(const char *directory)
{
    static const uint32_t kinds[] = {
        NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC, CODA_SUPER_MAGIC,
        V9FS_MAGIC,      AFS_FS_MAGIC,    FUSE_SUPER_MAGIC, 0x786f4256 /* of VirtualBox */};
    struct statfs fs;
    for (size_t i = 0; statfs(directory, &fs) == 0 && i < ARRAY_LEN(kinds); i++)
        if ((uint32_t)fs.f_type == kinds[i])
            return true;
    return false;
}

/* Whether the event names a file that counts. */
static bool is_of_source(const struct sources *s, const struct inotify_event *event)
{
    bool of_templates = (size_t)event->wd < s->watched && s->of_templates[event->wd];
    return event->len > 0 && !(event->mask & IN_ISDIR) &&
           (is_source(event->name, of_templates) || ends_with(event->name, ".ini"));
}

/* Whether what counts may have changed. A name without a dot may be a link to a
 * directory. */
static bool is_relevant(const struct sources *s, const struct inotify_event *event)
{
    if (event->mask & IN_IGNORED)
        return false;
    if (event->len == 0 || event->mask & (IN_ISDIR | IN_Q_OVERFLOW))
        return true;
    bool is_file = event->mask & (IN_CLOSE_WRITE | IN_ATTRIB);
    return is_of_source(s, event) || (!is_file && !strchr(event->name, '.'));
}

static void note_event(struct sources *s, const struct inotify_event *event)
{
    uint64_t now = now_ms();
    if (s->due_ms == SOURCES_NEVER)
        s->latest_ms = now + MOST_MS;
    s->due_ms = now + QUIET_MS < s->latest_ms ? now + QUIET_MS : s->latest_ms;
    if (!s->changed[0] && is_of_source(s, event))
        snprintf(s->changed, sizeof s->changed, "%s", event->name);
}

void sources_hear(struct sources *s)
{
    alignas(struct inotify_event) char events[16384];
    ssize_t got;
    while (s->fd >= 0 && (got = read(s->fd, events, sizeof events)) > 0)
        for (char *at = events; at < events + got;) {
            const struct inotify_event *event = (const struct inotify_event *)(void *)at;
            if (is_relevant(s, event))
                note_event(s, event);
            at += sizeof *event + event->len;
        }
}

bool sources_have_news(const struct sources *s)
{
    return s->changed[0] != '\0';
}

/* ---- a look ---- */

static uint64_t digest_of(const char *path, const struct stat *file)
{
    uint64_t hash = text_hash(TEXT_HASH, path, strlen(path));
    hash = text_hash(hash, &file->st_mtim, sizeof file->st_mtim);
    hash = text_hash(hash, &file->st_size, sizeof file->st_size);
    return text_hash(hash, &file->st_ino, sizeof file->st_ino);
}

static uint64_t look_at_ini(struct sources *s)
{
    struct stat file;
    if (!s->ini_path)
        return 0;
    char *directory = xstrdup(s->ini_path);
    watch(s, dirname(directory), false);
    free(directory);
    return stat(s->ini_path, &file) == 0 ? digest_of(s->ini_path, &file) : 0;
}

/* A directory comes before what is in it is read, so nothing is missed between the two. */
static uint64_t look_at(struct sources *s, FTS *tree, FTSENT *entry)
{
    if (entry->fts_info == FTS_D && is_skipped(entry)) {
        fts_set(tree, entry, FTS_SKIP);
    } else if (entry->fts_info == FTS_D) {
        entry->fts_number = is_of_templates(entry);
        watch(s, entry->fts_path, entry->fts_number);
    } else if (entry->fts_info == FTS_F &&
               is_source(entry->fts_name, entry->fts_parent->fts_number)) {
        return digest_of(entry->fts_path, entry->fts_statp);
    }
    return 0;
}

/* The directories to look into, and NULL. The caller owns the list, not its texts. */
static char **list_roots(const struct config *c)
{
    static char here[] = ".";
    const struct config_list *paths = &c->pythonpath, *more = &c->reload_dir;
    char **roots = xcalloc(paths->count + more->count + 2, sizeof *roots);
    roots[0] = here;
    for (size_t i = 0; i < paths->count; i++)
        roots[1 + i] = paths->items[i];
    for (size_t i = 0; i < more->count; i++)
        roots[1 + paths->count + i] = more->items[i];
    return roots;
}

/* A sum over all files, so that the order in which a directory lists them does not matter. */
static uint64_t look(struct sources *s, const struct config *c)
{
    char **roots = list_roots(c);
    uint64_t sum = look_at_ini(s);
    unsigned seen = 0;
    FTS *tree = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    FTSENT *entry;
    for (; tree && seen < FILE_MOST && (entry = fts_read(tree)) != NULL; seen++)
        sum += look_at(s, tree, entry);
    if (tree)
        fts_close(tree);
    free(roots);
    if (seen == FILE_MOST && !s->said_too_many)
        log_warning("there are more than %u files below the working directory and pythonpath: not "
                    "all of them are looked at for changes",
                    FILE_MOST);
    s->said_too_many |= seen == FILE_MOST;
    return sum;
}

/* ---- life ---- */

void sources_init(struct sources *s, const struct config *c)
{
    *s = (struct sources){.fd = -1, .due_ms = SOURCES_NEVER};
    if (!c->reload)
        return;
    s->ini_path = c->ini_path ? process_from_home(c->ini_path) : NULL;
    bool is_remote = false;
    char **roots = list_roots(c);
    for (size_t i = 0; roots[i]; i++)
        is_remote |= is_of_others(roots[i]);
    free(roots);
    if (is_remote)
        look_by_clock(s, "the code lies on a file system that others may change");
    else
        begin_inotify(s);
    s->digest = look(s, c);
    if (s->fd < 0)
        s->due_ms = now_ms() + LOOK_MS;
}

void sources_fini(struct sources *s)
{
    if (s->fd >= 0)
        close(s->fd);
    free(s->ini_path);
    free(s->of_templates);
}

bool sources_see_change(struct sources *s, const struct config *c)
{
    if (now_ms() < s->due_ms)
        return false;
    uint64_t now = look(s, c);
    s->due_ms = s->fd < 0 ? now_ms() + LOOK_MS : SOURCES_NEVER;
    bool has_changed = now != s->digest;
    if (has_changed)
        log_info("the code has changed%s%s", s->changed[0] ? ": " : "", text_quote(s->changed));
    s->digest = now;
    s->changed[0] = '\0';
    return has_changed;
}
