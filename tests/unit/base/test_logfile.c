/* The files of the logs: opened by one process, taken over by others. */
#include "base/logfile.c"

#include <setjmp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static char directory[] = "/tmp/test_logfile.XXXXXX";
static char path[64];
static _Atomic uint32_t *opening;

static void write_line(const char *line)
{
    uint64_t lost;
    assert_int_equal(logfile_write(LOGFILE_ACCESS, 6, line, strlen(line), &lost), LOGFILE_WRITTEN);
}

/* How often the text is in the file. */
static int count(const char *text)
{
    char command[256];
    snprintf(command, sizeof command, "exit $(cat %s %s.* 2>/dev/null | grep -c '%s')", path, path,
             text);
    int status = system(command);
    return WEXITSTATUS(status);
}

static bool is_in_place(int fd)
{
    struct stat open_file, file;
    return fstat(fd, &open_file) == 0 && stat(path, &file) == 0 && open_file.st_ino == file.st_ino;
}

static void rotate(const char *suffix)
{
    char away[96];
    snprintf(away, sizeof away, "%s.%s", path, suffix);
    assert_int_equal(rename(path, away), 0);
    assert_null(logfile_reopen());
}

/* Runs `body` in a process that was forked before `between` happens here. */
static void in_child(void (*between)(void), void (*body)(void))
{
    int fds[2];
    char byte = 0;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (read(fds[0], &byte, 1) == 1)
            body();
        _exit(is_in_place(targets[LOGFILE_ACCESS].fd) ? 0 : 1);
    }
    between();
    assert_int_equal(write(fds[1], &byte, 1), 1);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(fds[0]);
    close(fds[1]);
}

static int set_up(void **state)
{
    (void)state;
    opening =
        mmap(NULL, sizeof *opening, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!mkdtemp(directory))
        return 1;
    snprintf(path, sizeof path, "%s/access.log", directory);
    char *wrong = logfile_open(LOGFILE_ACCESS, path, true);
    logfile_share(opening);
    return wrong != NULL;
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", directory);
    return system(command);
}

static void rotate_once(void)
{
    rotate("once");
}

static void write_from_child(void)
{
    write_line("child\n");
}

static void test_child_follows(void **state)
{
    (void)state;
    in_child(rotate_once, write_from_child);
    assert_int_equal(count("child"), 1);
    assert_true(is_in_place(targets[LOGFILE_ACCESS].fd));
}

static void rotate_often(void)
{
    for (int i = 0; i < 100; i++)
        rotate("often");
}

static void test_only_the_newest_counts(void **state)
{
    (void)state;
    in_child(rotate_often, write_from_child);
}

/* No descriptor is free: it goes on with the old file, and takes the new one as soon as it can. */
static void write_without_descriptors(void)
{
    struct rlimit before, none = {0, 0};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    write_line("kept\n");
    if (is_in_place(targets[LOGFILE_ACCESS].fd))
        _exit(2);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    write_line("again\n");
}

static void test_no_descriptor_is_free(void **state)
{
    (void)state;
    in_child(rotate_once, write_without_descriptors);
    assert_int_equal(count("kept"), 1);
    assert_int_equal(count("again"), 1);
}

static void test_lost_lines_are_counted(void **state)
{
    (void)state;
    uint64_t lost = 0;
    int fd = targets[LOGFILE_ACCESS].fd;
    targets[LOGFILE_ACCESS].fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_int_equal(logfile_write(LOGFILE_ACCESS, 6, "x\n", 2, &lost), LOGFILE_LOST);
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(logfile_write(LOGFILE_ACCESS, 6, "x\n", 2, &lost), LOGFILE_STILL_LOST);
    close(targets[LOGFILE_ACCESS].fd);
    targets[LOGFILE_ACCESS].fd = fd;
    assert_int_equal(logfile_write(LOGFILE_ACCESS, 6, "x\n", 2, &lost), LOGFILE_BACK);
    assert_int_equal(lost, 2);
    assert_int_equal(logfile_write(LOGFILE_ACCESS, 6, "x\n", 2, &lost), LOGFILE_WRITTEN);
}

static void test_words(void **state)
{
    (void)state;
    static const char *const right[] = {"-",
                                        "/dev/null",
                                        "syslog:",
                                        "syslog:unix:/dev/log",
                                        "syslog:localhost:514",
                                        "syslog:[::1]:514"};
    static const char *const wrong[] = {"/nowhere/log", "syslog:x",
                                        "syslog:unix:", "syslog:x:", "syslog::514"};
    for (unsigned i = 0; i < ARRAY_LEN(right); i++)
        assert_null(logfile_check(right[i]));
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++) {
        char *sentence = logfile_check(wrong[i]);
        assert_non_null(sentence);
        free(sentence);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_child_follows),
        cmocka_unit_test(test_only_the_newest_counts),
        cmocka_unit_test(test_no_descriptor_is_free),
        cmocka_unit_test(test_lost_lines_are_counted),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
