/* fuzz_static.c: any bytes as the path of a request: no file is opened that lies outside of the
 * directory, and every name that is let through is one that the kernel takes as it stands. */
#include "fuzz.h"
#include "worker/roots.h"

#include "config/settings.h"
#include "http/request.h"
#include "system/beneath.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char base[] = "/tmp/fuzz-static-XXXXXX";
static char dir[sizeof(base) + 8]; /* base/www */

static void make_file(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    require(fd >= 0 && close(fd) == 0);
}

/* Runs in `dir`. Its files have short names, so that they are found. */
static void make_tree(void)
{
    require(mkdtemp(base) && chdir(base) == 0);
    make_file("s");
    snprintf(dir, sizeof(dir), "%s/www", base);
    require(mkdir("www", 0700) == 0 && mkdir("www/d", 0700) == 0 && chdir("www") == 0);
    make_file("a");
    make_file("d/b");
    require(symlink("..", "up") == 0 && symlink("../s", "out") == 0);
    require(symlink("/etc/passwd", "abs") == 0 && symlink("d/b", "in") == 0);
}

static void start(void)
{
    static char root_setting[64];
    static char *settings[] = {root_setting, "/d=d"};
    const struct config config = {.static_dirs = {settings, 2}};
    int here = open(".", O_PATH | O_DIRECTORY); /* the corpus has a relative path */
    make_tree();
    snprintf(root_setting, sizeof(root_setting), "/=%s", dir);
    roots_load(&config);
    require(fchdir(here) == 0 && close(here) == 0);
}

static void require_proper(const char *name, struct text path)
{
    require(name[0] && name[0] != '/' && strlen(name) < path.len);
    require(!strstr(name, "//") && !strstr(name, "/../") && strncmp(name, "../", 3) != 0);
    for (const char *c = name; *c; c++)
        require((unsigned char)*c >= 0x20 && *c != 0x7f);
}

static void require_below(int fd)
{
    char link[64], target[PATH_MAX];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, target, sizeof(target));
    size_t dir_len = strlen(dir);
    require(len >= (ssize_t)dir_len && memcmp(target, dir, dir_len) == 0);
    require(len == (ssize_t)dir_len || target[dir_len] == '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[PATH_MAX];
    char *decoded = malloc(size + 1);
    require(decoded != NULL);
    if (!dir[0])
        start();
    struct text path = {decoded, request_decode((const char *)data, size, decoded)};
    const struct root *root = roots_of(path);
    if (root && roots_name(root, path, name)) {
        require_proper(name, path);
        int dir_fd = roots_open(root);
        require(dir_fd >= 0);
        int fd = beneath_open(dir_fd, name);
        if (fd >= 0) {
            require_below(fd);
            close(fd);
        }
        close(dir_fd);
    }
    free(decoded);
    return 0;
}
