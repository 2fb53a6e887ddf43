/* Files below a directory: what leads out of it is not opened, by the kernel's watch or step by
 * step. */
#include "system/beneath.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

static char root[] = "/tmp/myserver-beneath-XXXXXX";
static int root_fd;

static void write_file(const char *path)
{
    char full[200];
    snprintf(full, sizeof(full), "%s/%s", root, path);
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(path, file);
    fclose(file);
}

static void link_to(const char *target, const char *path)
{
    char full[200];
    snprintf(full, sizeof(full), "%s/%s", root, path);
    assert_int_equal(symlink(target, full), 0);
}

static int make_tree(void **state)
{
    (void)state;
    char path[200];
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof(path), "%s/top", root);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/top/css", root);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/top/pipe", root);
    mkfifo(path, 0600);
    write_file("secret");
    write_file("top/a.txt");
    write_file("top/css/b.css");
    link_to("a.txt", "top/inside");
    link_to("../secret", "top/outside");
    link_to("..", "top/up");
    link_to("/etc/passwd", "top/absolute");
    link_to("css", "top/folder");
    snprintf(path, sizeof(path), "%s/top", root);
    root_fd = open(path, O_PATH | O_DIRECTORY);
    return root_fd < 0;
}

static int remove_tree(void **state)
{
    (void)state;
    char command[200];
    close(root_fd);
    snprintf(command, sizeof(command), "rm -r %s", root);
    return system(command);
}

typedef int opener(int dir_fd, const char *path);

static bool opens(opener *open_it, const char *path)
{
    int fd = open_it(root_fd, path);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void test_ways(void **state)
{
    static const char *const inside[] = {"a.txt", "css/b.css", "css//b.css", "./a.txt", "css",
                                         "pipe",  ""};
    static const char *const outside[] = {
        "../secret",  "css/../../secret", "..",          "outside",     "up/secret",
        "absolute",   "/etc/passwd",      "/",           "css/../a.tx", "nothing",
        "a.txt/more", "css/nothing",      "up/top/a.txt"};

    (void)state;
    for (size_t i = 0; i + 1 < ARRAY_LEN(inside); i++) {
        assert_true(opens(beneath_open, inside[i]));
        assert_true(opens(walk, inside[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(outside); i++)
        assert_false(opens(beneath_open, outside[i]));
    for (size_t i = 0; i < ARRAY_LEN(outside); i++)
        if (outside[i][0] != '/') /* beneath_open does not let it come so far */
            assert_false(opens(walk, outside[i]));
    /* Links that stay inside: only where the kernel watches. */
    assert_true(opens(beneath_open, "inside"));
    assert_true(opens(beneath_open, "folder/b.css"));
    assert_false(opens(walk, "inside"));
    assert_false(opens(walk, "folder/b.css"));
}

static void test_long_names(void **state)
{
    char name[NAME_MAX + 10];

    (void)state;
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(walk(root_fd, name), -1);
    assert_int_equal(errno, ENAMETOOLONG);
    assert_int_equal(beneath_open(root_fd, name), -1);
}

static unsigned open_count(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void test_nothing_stays_open(void **state)
{
    (void)state;
    unsigned before = open_count();
    (void)opens(walk, "css/b.css");
    (void)opens(walk, "css/../../secret");
    (void)opens(walk, "css/nothing/at/all");
    (void)opens(walk, "a.txt/more");
    assert_int_equal(open_count(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ways),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_nothing_stays_open),
    };
    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
