/* test_body.c: bodies in memory, on the disk, in the kernel, across the borders, and when the disk
 * fails. */
#include "http/body.c"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>

#include <cmocka.h>

static void assert_content(struct body *b, const char *expected, size_t len)
{
    char out[64];
    assert_int_equal(b->length, len);
    for (size_t offset = 0; offset < len; offset++) {
        ssize_t n = body_read(b, offset, out, 7);
        assert_true(n >= 1 && n <= 7);
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
    assert_int_equal(b.kept_end, 0);
    assert_int_equal(fstat(b.fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(fcntl(b.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(body_append(&b, "!", 1), BODY_OK);
    assert_content(&b, "hello world!", 12);
    body_fini(&b);
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
    for (int i = 0; i < 100 && result == BODY_OK; i++)
        result = body_append(&b, "0123456", 7);
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
    assert_true(budget.memory_bytes >= 4 * PIECE && budget.memory_bytes <= 8 * PIECE);
    assert_int_equal(body_append(&bodies[3], piece, PIECE), BODY_OK);
    assert_true(bodies[3].fd >= 0);
    assert_int_equal(bodies[3].length, 2 * PIECE);
    assert_int_equal(budget.files, 1);
    assert_true(budget.memory_bytes >= 3 * PIECE && budget.memory_bytes <= 6 * PIECE);
    body_reset(&bodies[3]);
    assert_int_equal(budget.files, 1); /* kept for the next */
    for (unsigned i = 0; i < 4; i++)
        body_fini(&bodies[i]);
    assert_int_equal(budget.files, 0);
    assert_int_equal(budget.memory_bytes, 0);
}

static void test_without_a_directory_the_file_is_in_memory(void **state)
{
    (void)state;
    struct body_budget budget = {.memory_max_bytes = 1 << 20, .memfd_max_bytes = 20};
    struct body a, b;
    int pipe_fds[2];
    body_init(&a, 4, NULL, &budget);
    body_init(&b, 4, NULL, &budget);
    assert_int_equal(body_append(&a, "hello world", 11), BODY_OK);
    assert_true(a.fd >= 0);
    assert_content(&a, "hello world", 11);
    assert_int_equal(budget.memfd_bytes, 11);
    assert_int_equal(body_append(&b, "0123456789", 10), BODY_FAILED);
    assert_int_equal(b.error, ENOSPC);
    assert_int_equal(budget.memfd_bytes, 11);
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(write(pipe_fds[1], "!!!!!!!!!", 9), 9);
    assert_int_equal(body_splice(&a, pipe_fds[0], 9), BODY_OK);
    assert_int_equal(budget.memfd_bytes, 20);
    assert_int_equal(write(pipe_fds[1], "!", 1), 1);
    assert_int_equal(body_splice(&a, pipe_fds[0], 1), BODY_FAILED);
    assert_int_equal(a.error, ENOSPC);
    assert_int_equal(budget.memfd_bytes, 0);
    body_reset(&b);
    assert_int_equal(body_append(&b, "0123456789", 10), BODY_OK);
    assert_content(&b, "0123456789", 10);
    body_reset(&b); /* nothing is kept for the next one */
    assert_int_equal(b.spare_fd, -1);
    assert_int_equal(budget.files, 0);
    assert_int_equal(budget.memfd_bytes, 0);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    body_fini(&a);
    body_fini(&b);
}

/* ---- large bodies in memory ---- */

enum { LARGE = 5 * BLOCK_BYTES / 2 };

static unsigned char byte_at(uint64_t offset)
{
    return (unsigned char)(offset % 251);
}

/* Appends bytes in pieces of that size. */
static void append_bytes(struct body *b, uint64_t until, size_t step)
{
    char piece[100000];
    while (b->length < until) {
        size_t len = until - b->length < step ? (size_t)(until - b->length) : step;
        for (size_t i = 0; i < len; i++)
            piece[i] = (char)byte_at(b->length + i);
        assert_int_equal(body_append(b, piece, len), BODY_OK);
    }
}

/* Reads all from `offset`, in pieces of that size, and drops what was read. */
static void assert_bytes(struct body *b, uint64_t offset, size_t step)
{
    static char out[LARGE];
    while (offset < b->length) {
        ssize_t n = body_read(b, offset, out, step);
        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal((unsigned char)out[i], byte_at(offset + (uint64_t)i));
        offset += (uint64_t)n;
        body_drop(b, offset);
    }
    assert_int_equal(body_read(b, offset, out, step), 0);
}

static void test_a_large_body_is_in_blocks_until_it_is_read(void **state)
{
    (void)state;
    struct body_budget budget = {.memory_max_bytes = 1 << 30};
    struct body b;
    body_init(&b, 1u << 30, "/nonexistent", &budget);
    append_bytes(&b, LARGE, 70001);
    assert_int_equal(b.block_count, 3);
    assert_int_equal(b.memory.cap, 0);
    assert_int_equal(budget.memory_bytes, 3 * BLOCK_BYTES);
    body_drop(&b, BLOCK_BYTES - 1);
    assert_int_equal(budget.memory_bytes, 3 * BLOCK_BYTES);
    assert_bytes(&b, 0, 1000);
    assert_int_equal(budget.memory_bytes, 0);
    assert_int_equal(b.length, LARGE);
    body_reset(&b);
    append_bytes(&b, 3, 3);
    assert_bytes(&b, 0, 2);
    body_fini(&b);
    blocks_trim(0);
}

static void test_bytes_are_written_where_they_stay(void **state)
{
    (void)state;
    struct body_budget budget = {.memory_max_bytes = 1 << 30};
    struct body b;
    size_t room;
    body_init(&b, 1u << 30, "/nonexistent", &budget);
    b.announced = LARGE;
    append_bytes(&b, KEPT_MEMORY_BYTES, 30000);
    assert_null(body_room(&b, &room)); /* few bytes: it may be a slow client */
    append_bytes(&b, KEPT_MEMORY_BYTES + 1, 1);
    for (char *at; b.length < LARGE && (at = body_room(&b, &room));) {
        assert_true(room > 0 && room <= BLOCK_BYTES && room <= LARGE - b.length);
        size_t len = room > 50000 ? 50000 : room;
        for (size_t i = 0; i < len; i++)
            at[i] = (char)byte_at(b.length + i);
        body_took(&b, len);
    }
    assert_int_equal(b.length, LARGE);
    assert_bytes(&b, 0, LARGE);
    body_fini(&b);
    blocks_trim(0);
}

static void test_what_is_in_blocks_stays_when_a_file_begins(void **state)
{
    (void)state;
    struct body_budget budget = {.memory_max_bytes = 2 * BLOCK_BYTES};
    struct body b;
    size_t room;
    body_init(&b, 1u << 30, "/tmp", &budget);
    b.announced = LARGE;
    append_bytes(&b, 2 * BLOCK_BYTES, 65536);
    assert_int_equal(b.fd, -1);
    assert_null(body_room(&b, &room));
    append_bytes(&b, LARGE, 65536);
    assert_true(b.fd >= 0);
    assert_int_equal(b.kept_end, 2 * BLOCK_BYTES);
    assert_bytes(&b, 0, 65536);
    assert_int_equal(budget.memory_bytes, 0);
    body_fini(&b);
    blocks_trim(0);
}

static void test_one_that_must_go_to_a_file_takes_no_blocks(void **state)
{
    (void)state;
    struct body_budget budget = {.memory_max_bytes = 1 << 30};
    struct body b;
    body_init(&b, LARGE - 1, "/tmp", &budget);
    b.announced = LARGE;
    append_bytes(&b, LARGE, 50000);
    assert_true(b.fd >= 0);
    assert_int_equal(b.block_count, 0);
    assert_int_equal(b.kept_end, 0);
    assert_bytes(&b, 0, 65536);
    body_fini(&b);
}

static void test_memory_is_moved_to_the_file(void **state)
{
    (void)state;
    struct body_budget budget = {.memory_max_bytes = 1 << 30};
    struct body b;
    body_init(&b, 1u << 30, "/tmp", &budget);
    append_bytes(&b, LARGE - 5, 65536);
    assert_true(body_unload(&b));
    assert_int_equal(budget.memory_bytes, 0);
    assert_int_equal(b.kept_end, 0);
    append_bytes(&b, LARGE, 5);
    assert_bytes(&b, 0, 65536);
    body_fini(&b);
    /* The disk is full: nothing has happened. */
    body_init(&b, 1u << 30, "/nonexistent", &budget);
    append_bytes(&b, LARGE, 65536);
    assert_false(body_unload(&b));
    assert_int_equal(b.error, 0);
    assert_bytes(&b, 0, 65536);
    body_fini(&b);
    blocks_trim(0);
}

/* ---- bytes that stay in the kernel ---- */

static uint64_t source_at, source_end; /* what it gives next, and where it ends */

static ssize_t give(int socket, char *out, size_t len)
{
    size_t most = 60000; /* less than what is asked for */
    assert_int_equal(socket, 77);
    len = len < most ? len : most;
    len = source_end - source_at < len ? (size_t)(source_end - source_at) : len;
    for (size_t i = 0; out && i < len; i++)
        out[i] = (char)byte_at(source_at + i);
    source_at += len;
    return (ssize_t)len;
}

static void leave(struct body *b, uint64_t here)
{
    append_bytes(b, here, 65536);
    source_at = here;
    source_end = LARGE;
    assert_true(body_await(b, LARGE - here));
    body_leave(b, give, 77, LARGE - here);
    assert_int_equal(b->length, LARGE);
}

static void test_the_rest_is_read_from_its_source(void **state)
{
    (void)state;
    static const uint64_t here[] = {0,        1, 5000, 65536, 65537, BLOCK_BYTES, BLOCK_BYTES + 1,
                                    LARGE - 1};
    static const size_t steps[] = {1000, SOURCE_BYTES_MIN, 65536, LARGE};
    struct body_budget budget = {.memory_max_bytes = 1 << 30};
    struct body b;
    body_init(&b, 1u << 30, "/nonexistent", &budget);
    for (size_t i = 0; i < ARRAY_LEN(here); i++)
        for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
            leave(&b, here[i]);
            assert_true(budget.memory_bytes >= LARGE - here[i]);
            assert_bytes(&b, 0, steps[k]);
            assert_int_equal(source_at, LARGE);
            body_reset(&b);
            assert_true(budget.memory_bytes <= KEPT_MEMORY_BYTES);
        }
    body_fini(&b);
    assert_int_equal(budget.memory_bytes, 0);
    blocks_trim(0);
}

/* As readline does: far ahead of what is read, then on from there in large steps. */
static void test_looking_ahead_into_the_rest(void **state)
{
    (void)state;
    static const uint64_t here[] = {0, 5000, BLOCK_BYTES + 9};
    struct body_budget budget = {.memory_max_bytes = 1 << 30};
    struct body b;
    char out[100000];
    body_init(&b, 1u << 30, "/nonexistent", &budget);
    for (size_t i = 0; i < ARRAY_LEN(here); i++) {
        leave(&b, here[i]);
        uint64_t offset = 0;
        for (size_t len; offset < LARGE - 100000; offset += len) {
            const char *piece = body_piece(&b, offset, &len);
            assert_non_null(piece);
            assert_int_equal((unsigned char)piece[0], byte_at(offset));
            assert_int_equal((unsigned char)piece[len - 1], byte_at(offset + len - 1));
        }
        assert_bytes(&b, 0, 65536);
        body_reset(&b);
        /* Straight from the source first. */
        leave(&b, 7);
        assert_int_equal(body_read(&b, 0, out, 7), 7);
        ssize_t n = body_read(&b, 7, out, sizeof(out));
        assert_true(n > 0);
        size_t len;
        const char *piece = body_piece(&b, 7 + (uint64_t)n, &len);
        assert_non_null(piece);
        assert_int_equal((unsigned char)piece[0], byte_at(7 + (uint64_t)n));
        assert_bytes(&b, 7 + (uint64_t)n, 1000);
        body_reset(&b);
    }
    body_fini(&b);
    blocks_trim(0);
}

static void test_what_is_not_read_is_discarded(void **state)
{
    (void)state;
    struct body b;
    char out[20000];
    body_init(&b, 1u << 30, "/nonexistent", NULL);
    leave(&b, 5000);
    source_end += 10; /* the next request */
    assert_int_equal(body_read(&b, 0, out, sizeof(out)), 5000);
    assert_int_equal(body_read(&b, 5000, out, sizeof(out)), sizeof(out));
    body_reset(&b);
    assert_int_equal(source_at, LARGE);
    assert_int_equal(b.length, 0);
    body_fini(&b);
}

static void test_a_source_that_ends(void **state)
{
    (void)state;
    struct body b;
    char out[20000];
    body_init(&b, 1u << 30, "/nonexistent", NULL);
    leave(&b, 5000);
    source_end = 30000;
    assert_int_equal(body_read(&b, 5000, out, sizeof(out)), sizeof(out));
    assert_int_equal(body_read(&b, 25000, out, 100), 100); /* by way of a block */
    assert_int_equal(body_read(&b, 30000, out, sizeof(out)), 0);
    assert_int_equal(body_read(&b, 30000, out, 100), -1);
    body_reset(&b);
    body_fini(&b);
    blocks_trim(0);
}

static void test_a_wait_needs_room_in_the_budget(void **state)
{
    (void)state;
    struct body_budget budget = {.memory_max_bytes = 1000000};
    struct body a, b;
    body_init(&a, 900000, "/tmp", &budget);
    body_init(&b, 900000, "/tmp", &budget);
    assert_false(body_await(&a, 900001));
    assert_true(body_await(&a, 700000));
    assert_int_equal(budget.memory_bytes, 700000);
    assert_false(body_await(&b, 700000));
    body_want(&a);
    assert_int_equal(budget.memory_bytes, 0);
    assert_true(body_await(&b, 700000));
    body_fini(&b);
    assert_int_equal(budget.memory_bytes, 0);
    body_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_body_stays_in_memory),
        cmocka_unit_test(test_body_moves_to_a_file_without_a_name),
        cmocka_unit_test(test_reset_forgets_and_gives_memory_back),
        cmocka_unit_test(test_missing_directory_is_a_failure),
        cmocka_unit_test(test_full_disk_is_a_failure),
        cmocka_unit_test(test_bytes_from_a_pipe),
        cmocka_unit_test(test_bytes_from_a_pipe_that_must_be_copied),
        cmocka_unit_test(test_file_that_cannot_be_read),
        cmocka_unit_test(test_beyond_twice_the_budget_nothing_grows),
        cmocka_unit_test(test_a_budget_is_kept_and_given_back),
        cmocka_unit_test(test_without_a_directory_the_file_is_in_memory),
        cmocka_unit_test(test_a_large_body_is_in_blocks_until_it_is_read),
        cmocka_unit_test(test_bytes_are_written_where_they_stay),
        cmocka_unit_test(test_what_is_in_blocks_stays_when_a_file_begins),
        cmocka_unit_test(test_one_that_must_go_to_a_file_takes_no_blocks),
        cmocka_unit_test(test_memory_is_moved_to_the_file),
        cmocka_unit_test(test_the_rest_is_read_from_its_source),
        cmocka_unit_test(test_looking_ahead_into_the_rest),
        cmocka_unit_test(test_what_is_not_read_is_discarded),
        cmocka_unit_test(test_a_source_that_ends),
        cmocka_unit_test(test_a_wait_needs_room_in_the_budget),
    };
    return cmocka_run_group_tests_name("body", tests, NULL, NULL);
}
