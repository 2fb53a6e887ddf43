/* privilege.c: becomes another user, for good.
 *
 * Owns the order of the system calls: supplementary groups, group, user, because after each step
 * the one before is not allowed any more; then the result is checked. The master does it after it
 * has opened what needs root's rights, so that no process of the server keeps them.
 *
 * Never goes back, never leaves a supplementary group of root. Runs in the master, before the first
 * fork. */
#include "system/privilege.h"

#include "base/log.h"
#include "base/logfile.h"
#include "config/origin.h"
#include "config/settings.h"
#include "system/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A number need not be in the user database: in many containers it is not. */
static bool parse_id(const char *text, unsigned *id)
{
    size_t digits = strspn(text, "0123456789");
    unsigned long number = strtoul(text, NULL, 10);
    if (digits == 0 || digits > 10 || text[digits] != '\0' || number >= UINT32_MAX)
        return false; /* UINT32_MAX: "no change" for setresuid(2) */
    *id = (unsigned)number;
    return true;
}

static void find_user(struct privilege *p, const char *user, bool group_is_given)
{
    bool numeric = parse_id(user, &p->uid);
    const struct passwd *entry = numeric ? getpwuid(p->uid) : getpwnam(user);
    if (!entry && !numeric)
        config_origin_die(EXIT_CONFIG, "user", NULL,
                          "there is no user \"%s\"; write a name or a number", user);
    /* Without an entry the process would keep its group, which is root's. */
    if (!entry && !group_is_given && p->uid != geteuid())
        config_origin_die(EXIT_CONFIG, "user", NULL,
                          "%s has no entry in the user database, so its group is unknown; "
                          "set group",
                          user);
    if (!entry)
        return;
    p->uid = entry->pw_uid;
    p->gid = entry->pw_gid;
    snprintf(p->user_name, sizeof p->user_name, "%s", entry->pw_name);
}

static void find_group(struct privilege *p, const char *group)
{
    if (parse_id(group, &p->gid))
        return;
    const struct group *entry = getgrnam(group);
    if (!entry)
        config_origin_die(EXIT_CONFIG, "group", NULL,
                          "there is no group \"%s\"; write a name or a number", group);
    p->gid = entry->gr_gid;
}

void privilege_init(struct privilege *p, const struct config *c)
{
    *p = (struct privilege){.uid = geteuid(), .gid = getegid()};
    if (c->user)
        find_user(p, c->user, c->group != NULL);
    if (c->group)
        find_group(p, c->group);
    p->changes = p->uid != geteuid() || p->gid != getegid();
    if (p->changes && geteuid() != 0)
        config_origin_die(EXIT_CONFIG, p->uid != geteuid() ? "user" : "group", NULL,
                          "only root can become another; start as root, or without this option");
}

/* Changes the owner of a unix socket, by descriptor and not by path: whoever may write in the
 * directory may put a link there at any time. Returns NULL, or why it is not done. */
static const char *give_socket(const struct privilege *p, const struct listener *l)
{
    struct stat file;
    const char *wrong = NULL;
    int fd = open(l->unlink_path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return strerror(errno);
    if (fstat(fd, &file) != 0 || !S_ISSOCK(file.st_mode) || file.st_nlink > 1 ||
        file.st_dev != l->path_device || file.st_ino != l->path_inode)
        wrong = "somebody has put another file there";
    else if (fchownat(fd, "", p->uid, p->gid, AT_EMPTY_PATH) != 0)
        wrong = strerror(errno);
    close(fd);
    return wrong;
}

void privilege_give_sockets(const struct privilege *p, const struct listeners *all)
{
    for (size_t i = 0; i < all->count && p->changes; i++) {
        const struct listener *l = &all->items[i];
        const char *wrong = l->unlink_path ? give_socket(p, l) : NULL;
        if (wrong)
            log_warning("%s keeps its owner: %s", l->name, wrong);
    }
}

void privilege_give_log(const struct privilege *p, enum logfile log, const char *name)
{
    if (p->changes && !logfile_give(log, p->uid, p->gid))
        log_warning("%s keeps its owner: %s", name, strerror(errno));
}

static NORETURN void refuse(const char *option)
{
    config_origin_die(EXIT_CONFIG, option, NULL, "cannot become it: %s", strerror(errno));
}

void privilege_drop(const struct privilege *p)
{
    if (!p->changes)
        return;
    if (p->user_name[0] ? initgroups(p->user_name, p->gid) : setgroups(1, &p->gid))
        die(EXIT_CONFIG, "cannot set the supplementary groups: %s", strerror(errno));
    if (setresgid(p->gid, p->gid, p->gid) != 0)
        refuse("group");
    if (setresuid(p->uid, p->uid, p->uid) != 0)
        refuse("user");
    assert(geteuid() == p->uid && getuid() == p->uid && getegid() == p->gid);
    /* Without this, root owns /proc/PID of the workers now: the master could not read it for
     * max-worker-memory and for the state of a stuck thread, and there would be no core dumps. */
    prctl(PR_SET_DUMPABLE, 1);
}
