/* roots.c: the directories whose files are served, and which file a path names. Owns their list:
 * made once, never changed, and so shared by all processes. */
#include "roots.h"

#include "base/log.h"
#include "config/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static struct root *roots; /* owned; the longest prefix first */
static size_t count;

static size_t prefix_len(const char *setting)
{
    size_t len = strcspn(setting, "=");
    while (len > 0 && setting[len - 1] == '/')
        len--;
    return len;
}

static char *absolute(const char *dir)
{
    char here[PATH_MAX];
    if (dir[0] == '/' || !getcwd(here, sizeof(here)))
        return xstrdup(dir);
    return xasprintf("%s/%s", here, dir);
}

/* `setting` is "PREFIX=DIR", which check.c has made sure of. */
static void add(const char *setting)
{
    size_t len = prefix_len(setting), at = count;
    roots = xrealloc(roots, (count + 1) * sizeof(*roots));
    for (; at > 0 && strlen(roots[at - 1].prefix) < len; at--)
        roots[at] = roots[at - 1];
    roots[at] = (struct root){.prefix = xasprintf("%.*s", (int)len, setting),
                              .dir = absolute(strchr(setting, '=') + 1)};
    count++;
}

/* check.c looked with the rights of whoever has started the server. */
static void warn_if_closed(const struct root *root)
{
    if (access(root->dir, X_OK) != 0)
        log_warning("static: %s is not open to the user of the workers: %s", root->dir,
                    strerror(errno));
}

void roots_load(const struct config *config)
{
    for (size_t i = 0; i < config->static_dirs.count; i++)
        add(config->static_dirs.items[i]);
    for (size_t i = 0; i < count; i++)
        warn_if_closed(&roots[i]);
}

bool roots_any(void)
{
    return count > 0;
}

const struct root *roots_of(struct text path)
{
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(roots[i].prefix);
        if (path.len >= len && memcmp(path.data, roots[i].prefix, len) == 0 &&
            (path.len == len || path.data[len] == '/'))
            return &roots[i];
    }
    return NULL;
}

static bool has_control_byte(struct text text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
            return true;
    return false;
}

/* The length of the first name of a relative path; 0 when it may not be there. */
static size_t first_name(const char *path)
{
    size_t len = strcspn(path, "/");
    bool is_dots = path[0] == '.' && (len == 1 || (len == 2 && path[1] == '.'));
    return is_dots ? 0 : len;
}

bool roots_name(const struct root *root, struct text path, char name[PATH_MAX])
{
    size_t skip = strlen(root->prefix) + 1, len;
    if (path.len <= skip || path.len - skip >= PATH_MAX || has_control_byte(path))
        return false;
    memcpy(name, path.data + skip, path.len - skip);
    name[path.len - skip] = '\0';
    for (const char *at = name; (len = first_name(at)) > 0; at += len + 1)
        if (at[len] == '\0')
            return true;
    return false;
}

int roots_open(const struct root *root)
{
    return open(root->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
}
