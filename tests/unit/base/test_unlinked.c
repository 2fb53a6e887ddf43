/* Temporary files that nobody else sees. */
#include "base/unlinked.c"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

static void check_unlinked(int fd)
{
    struct stat st;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    close(fd);
}

static void test_has_no_name(void **state)
{
    (void)state;
    check_unlinked(unlinked_open("/tmp"));
    check_unlinked(open_named("/tmp")); /* a file system without O_TMPFILE */
    /* procfs has neither way. */
    assert_int_equal(unlinked_open("/proc"), -1);
    assert_int_not_equal(errno, 0);
}

static void test_memory_where_there_is_no_directory(void **state)
{
    (void)state;
    int fd = unlinked_open(NULL);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
}

static void check_found(const char *tmpdir, const char *expected)
{
    setenv("TMPDIR", tmpdir, 1);
    char *found = unlinked_find_dir();
    assert_string_equal(found, expected);
    free(found);
}

static void test_finds_a_directory(void **state)
{
    (void)state;
    check_found("/var/tmp", "/var/tmp");
    check_found("/proc", "/tmp");
    check_found("/nonexistent", "/tmp");
    check_found("tmp", "/tmp");
    unsetenv("TMPDIR");
    char *found = unlinked_find_dir();
    assert_string_equal(found, "/tmp");
    free(found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_has_no_name),
        cmocka_unit_test(test_memory_where_there_is_no_directory),
        cmocka_unit_test(test_finds_a_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
