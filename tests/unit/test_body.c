/* test_body.c: bodies in memory, on the disk, across the border, and when the disk fails. */
#include "http/body.c"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>

#include <cmocka.h>

static void assert_content(const struct body *b, const char *expected, size_t len)
{
    char out[64];
    assert_int_equal(b->length, len);
    for (size_t offset = 0; offset < len; offset++) {
        ssize_t n = body_read(b, offset, out, 7);
        assert_in_range(n, 1, 7);
        assert_memory_equal(out, expected + offset, (size_t)n);
    }
    assert_int_equal(body_read(b, len, out, sizeof(out)), 0);
    assert_int_equal(body_read(b, UINT64_MAX, out, sizeof(out)), 0);
}

static void test_small_body_stays_in_memory(void **state)
{
    (void)state;
    struct body b;
    char out[4];
    body_init(&b, 10, "/nonexistent", NULL);
    assert_int_equal(body_read(&b, 0, out, sizeof(out)), 0);
    assert_int_equal(body_append(&b, "hello", 5), BODY_OK);
    assert_int_equal(body_append(&b, "", 0), BODY_OK);
    assert_int_equal(body_append(&b, "world", 5), BODY_OK);
    assert_int_equal(b.fd, -1);
    assert_content(&b, "helloworld", 10);
    body_fini(&b);
}

static void test_body_moves_to_a_file_without_a_name(void **state)
{
    (void)state;
    struct body b;
    struct stat st;
    body_init(&b, 10, "/tmp", NULL);
    assert_int_equal(body_append(&b, "hello", 5), BODY_OK);
    assert_int_equal(body_append(&b, " world", 6), BODY_OK);
    assert_true(b.fd >= 0);
    assert_int_equal(b.memory.cap, 0);
    assert_int_equal(fstat(b.fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(fcntl(b.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(body_append(&b, "!", 1), BODY_OK);
    assert_content(&b, "hello world!", 12);
    body_fini(&b);
}

static void test_file_system_without_o_tmpfile(void **state)
{
    (void)state;
    struct stat st;
    int fd = open_named("/tmp");
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    close(fd);
    /* procfs has neither way. */
    assert_int_equal(open_unlinked("/proc"), -1);
    assert_int_not_equal(errno, 0);
}

static void test_reset_forgets_and_gives_memory_back(void **state)
{
    (void)state;
    static char large[KEPT_MEMORY_BYTES + 1];
    struct body b;
    char out[4];
    body_init(&b, 1u << 20, "/tmp", NULL);
    assert_int_equal(body_append(&b, "secret", 6), BODY_OK);
    const char *kept = b.memory.data;
    body_reset(&b);
    assert_ptr_equal(b.memory.data, kept);
    assert_int_equal(body_read(&b, 0, out, sizeof(out)), 0);
    assert_int_equal(body_append(&b, large, sizeof(large)), BODY_OK);
    body_reset(&b);
    assert_int_equal(b.memory.cap, 0);
    body_fini(&b);
}

static void test_missing_directory_is_a_failure(void **state)
{
    (void)state;
    struct body b;
    body_init(&b, 3, "/nonexistent", NULL);
    assert_int_equal(body_append(&b, "abc", 3), BODY_OK);
    assert_int_equal(body_append(&b, "d", 1), BODY_FAILED);
    assert_int_equal(b.error, ENOENT);
    assert_int_equal(b.fd, -1);
    /* Good again for the next request. */
    body_reset(&b);
    assert_int_equal(body_append(&b, "abc", 3), BODY_OK);
    body_fini(&b);
}

static void test_full_disk_is_a_failure(void **state)
{
    (void)state;
    struct body b;
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 100;
    body_init(&b, 10, "/tmp", NULL);
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    enum body_result result = BODY_OK;
    for (int i = 0; i < 100 && result == BODY_OK; i++) {
        result = body_append(&b, "0123456", 7);
    }
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(result, BODY_FAILED);
    assert_int_equal(b.error, EFBIG);
    assert_int_equal(b.fd, -1);
    body_fini(&b);
}

static void test_bytes_from_a_pipe(void **state)
{
    (void)state;
    struct body b;
    int ends[2];
    body_init(&b, 3, "/tmp", NULL);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(body_append(&b, "hello", 5), BODY_OK);
    assert_int_equal(write(ends[1], " world!", 7), 7);
    assert_int_equal(body_splice(&b, ends[0], 6), BODY_OK);
    assert_int_equal(body_append(&b, "?", 1), BODY_OK);
    assert_content(&b, "hello world?", 12);
    /* The file cannot be written. */
    close(b.fd);
    b.fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(body_splice(&b, ends[0], 1), BODY_FAILED);
    assert_int_equal(b.error, EBADF);
    assert_int_equal(b.fd, -1);
    close(ends[0]);
    close(ends[1]);
    body_fini(&b);
}

/* splice(2): EINVAL, as where the file system does not support it. */
static void test_bytes_from_a_pipe_that_must_be_copied(void **state)
{
    (void)state;
    struct body b;
    int ends[2];
    body_init(&b, 3, "/tmp", NULL);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(body_append(&b, "hello", 5), BODY_OK);
    assert_int_equal(fcntl(b.fd, F_SETFL, O_APPEND), 0);
    assert_int_equal(write(ends[1], " world!", 7), 7);
    assert_int_equal(splice(ends[0], NULL, b.fd, NULL, 1, 0), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(body_splice(&b, ends[0], 6), BODY_OK);
    assert_content(&b, "hello world", 11);
    close(ends[0]);
    close(ends[1]);
    body_fini(&b);
}

static void test_file_that_cannot_be_read(void **state)
{
    (void)state;
    struct body b;
    char out[4];
    body_init(&b, 1, "/tmp", NULL);
    assert_int_equal(body_append(&b, "hello", 5), BODY_OK);
    close(b.fd);
    b.fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(body_read(&b, 0, out, sizeof(out)), -1);
    assert_int_equal(errno, EISDIR);
    body_fini(&b);
}

static void test_beyond_twice_the_budget_nothing_grows(void **state)
{
    (void)state;
    static char piece[8192];
    struct body_budget budget = {.memory_max_bytes = 10000, .memory_bytes = 15000};
    struct body form, warm, cold;
    body_init(&warm, 1u << 20, "/tmp", &budget);
    assert_int_equal(body_append(&warm, piece, 4097), BODY_OK);
    assert_int_equal(budget.memory_bytes, 15000 + 4096);
    assert_int_equal(warm.fd, -1);
    body_reset(&warm);
    body_init(&form, 1u << 20, "/tmp", &budget);
    assert_int_equal(body_append(&form, piece, 4096), BODY_OK);
    assert_int_equal(form.fd, -1); /* small enough to be free */
    body_init(&cold, 1u << 20, "/tmp", &budget);
    assert_int_equal(body_append(&cold, piece, 4097), BODY_OK);
    assert_true(cold.fd >= 0);
    assert_int_equal(body_append(&warm, piece, 8192), BODY_OK);
    assert_int_equal(warm.fd, -1); /* in what it has */
    body_fini(&warm);
    body_fini(&form);
    body_fini(&cold);
    assert_int_equal(budget.memory_bytes, 15000);
}

static void test_a_budget_is_kept_and_given_back(void **state)
{
    (void)state;
    enum { PIECE = 50000 };
    static char piece[PIECE];
    struct body_budget budget = {.memory_max_bytes = 200000};
    struct body bodies[4];
    for (unsigned i = 0; i < 4; i++) {
        body_init(&bodies[i], 1u << 20, "/tmp", &budget);
        assert_int_equal(body_append(&bodies[i], piece, PIECE), BODY_OK);
        assert_int_equal(bodies[i].fd, -1); /* each is small enough to stay */
    }
    assert_in_range(budget.memory_bytes, 4 * PIECE, 8 * PIECE);
    assert_int_equal(body_append(&bodies[3], piece, PIECE), BODY_OK);
    assert_true(bodies[3].fd >= 0);
    assert_int_equal(bodies[3].length, 2 * PIECE);
    assert_int_equal(budget.files, 1);
    assert_in_range(budget.memory_bytes, 3 * PIECE, 6 * PIECE);
    body_reset(&bodies[3]);
    assert_int_equal(budget.files, 1); /* kept for the next */
    for (unsigned i = 0; i < 4; i++) {
        body_fini(&bodies[i]);
    }
    assert_int_equal(budget.files, 0);
    assert_int_equal(budget.memory_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_body_stays_in_memory),
        cmocka_unit_test(test_body_moves_to_a_file_without_a_name),
        cmocka_unit_test(test_file_system_without_o_tmpfile),
        cmocka_unit_test(test_reset_forgets_and_gives_memory_back),
        cmocka_unit_test(test_missing_directory_is_a_failure),
        cmocka_unit_test(test_full_disk_is_a_failure),
        cmocka_unit_test(test_bytes_from_a_pipe),
        cmocka_unit_test(test_bytes_from_a_pipe_that_must_be_copied),
        cmocka_unit_test(test_file_that_cannot_be_read),
        cmocka_unit_test(test_beyond_twice_the_budget_nothing_grows),
        cmocka_unit_test(test_a_budget_is_kept_and_given_back),
    };
    return cmocka_run_group_tests_name("body", tests, NULL, NULL);
}
