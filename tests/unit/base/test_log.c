/* The error log: the form of a record, what is escaped, levels, opening a file. */
#include "base/log.c"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/stat.h>

#include <cmocka.h>

static char path[] = "/tmp/test_log.XXXXXX";
static int real_stderr, real_stdout;

/* Everything written to the log since the last call. */
static char *written(void)
{
    static char text[16384];
    int fd = open(path, O_RDONLY);
    ssize_t len = read(fd, text, sizeof text - 1);
    close(fd);
    text[len > 0 ? len : 0] = '\0';
    assert_int_equal(truncate(path, 0), 0);
    return text;
}

/* What stands behind the prefix of a record. */
static const char *text_of(const char *record)
{
    const char *colon = strstr(record, "): ");
    assert_non_null(colon);
    return colon + 3;
}

static int set_up(void **state)
{
    (void)state;
    real_stderr = dup(STDERR_FILENO);
    real_stdout = dup(STDOUT_FILENO);
    int fd = mkstemp(path);
    close(fd);
    char *wrong = logfile_open(LOGFILE_ERROR, path, true);
    dup2(real_stdout, STDOUT_FILENO);
    return wrong != NULL;
}

static int tear_down(void **state)
{
    (void)state;
    dup2(real_stderr, STDERR_FILENO);
    return unlink(path);
}

static void test_form_of_a_record(void **state)
{
    (void)state;
    struct tm tm;
    char expected[64];
    log_set_process("worker %d", 3);
    log_info("%d requests", 12);
    char *record = written();
    const char *rest = strptime(record, "%Y-%m-%d %H:%M:%S.", &tm);
    assert_non_null(rest);
    assert_int_equal(strspn(rest, "0123456789"), 3);
    snprintf(expected, sizeof expected, "Z [info] worker 3 (%d): 12 requests\n", (int)getpid());
    assert_string_equal(rest + 3, expected);
}

static void test_levels(void **state)
{
    (void)state;
    log_set_level(LOG_WARNING);
    log_debug("no");
    log_info("no");
    log_block(LOG_INFO, "no", 2, "no");
    assert_string_equal(written(), "");
    assert_false(log_enabled(LOG_INFO));
    log_warning("yes");
    assert_non_null(strstr(written(), "[warning]"));
    log_error("yes");
    assert_non_null(strstr(written(), "[error]"));
    log_critical("yes");
    assert_non_null(strstr(written(), "[critical]"));
    log_set_level(LOG_DEBUG);
    log_debug("yes");
    assert_non_null(strstr(written(), "[debug]"));
    log_set_level(LOG_INFO);
}

static void test_write_cannot_be_forged(void **state)
{
    (void)state;
    log_info("a\nb\rc\033[2J%c d\\ \"e\" \xc3\xa9 \xc3 \xc2\x9b", 0x7f);
    assert_string_equal(text_of(written()),
                        "a\\nb\\x0dc\\x1b[2J\\x7f d\\ \"e\" \xc3\xa9 \\xc3 \\xc2\\x9b\n");
}

static void test_long_texts_are_whole(void **state)
{
    (void)state;
    for (int length = LOG_TEXT_BYTES - 2; length <= LOG_TEXT_BYTES + 2; length++) {
        log_info("%0*d", length, 7);
        const char *text = text_of(written());
        assert_int_equal(strlen(text), length + 1);
        assert_string_equal(text + length - 1, "7\n");
    }
}

static void test_block_is_indented(void **state)
{
    (void)state;
    static const char text[] = "Traceback:\n\n  line\x01\nError: \"x\"\n";
    log_block(LOG_ERROR, text, sizeof text - 1, "GET %s", "/");
    assert_string_equal(text_of(written()), "GET /\n  Traceback:\n  \n    line\\x01\n  Error: "
                                            "\"x\"\n");
    log_block(LOG_ERROR, "no newline", 10, "x");
    assert_string_equal(text_of(written()), "x\n  no newline\n");
    log_block(LOG_ERROR, "", 0, "empty");
    assert_string_equal(text_of(written()), "empty\n");
}

static void test_json(void **state)
{
    (void)state;
    static const char text[] = "Traceback:\n  \"x\"\n";
    struct tm tm;
    char expected[256];
    log_set_json(true);
    log_set_process("mold");
    log_block(LOG_ERROR, text, sizeof text - 1, "a\nb \\ \xc3\xa9 \xff\x7f");
    log_set_json(false);
    const char *rest = strptime(written(), "{\"time\": \"%Y-%m-%dT%H:%M:%S.", &tm);
    assert_non_null(rest);
    assert_int_equal(strspn(rest, "0123456789"), 3);
    snprintf(expected, sizeof expected,
             "Z\", \"level\": \"error\", \"process\": \"mold\", \"pid\": %d, "
             "\"message\": \"a\\nb \\\\ \xc3\xa9 \\ufffd\\u007f\", "
             "\"detail\": \"Traceback:\\n  \\\"x\\\"\\n\"}\n",
             (int)getpid());
    assert_string_equal(rest + 3, expected);
}

static void test_errno_survives(void **state)
{
    (void)state;
    errno = EDOM;
    log_info("text");
    assert_int_equal(errno, EDOM);
    written();
}

static void check_escape(const char *text, size_t len, const char *expected)
{
    struct buf out = {0};
    log_escape(&out, text, len);
    buf_append(&out, "", 1);
    assert_string_equal(out.data, expected);
    buf_fini(&out);
}
#define CHECK_ESCAPE(text, expected) check_escape(text, sizeof text - 1, expected)

static void test_escape(void **state)
{
    (void)state;
    CHECK_ESCAPE("", "");
    CHECK_ESCAPE("plain text", "plain text");
    CHECK_ESCAPE("a\"b\\c", "a\\\"b\\\\c");
    CHECK_ESCAPE("\n\r\t\0\x1f\x7f", "\\x0a\\x0d\\x09\\x00\\x1f\\x7f");
    CHECK_ESCAPE("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x8d",
                 "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x8d");
    /* RFC 3629: broken off, overlong, surrogate, too large, lone continuation, C1. */
    CHECK_ESCAPE("\xe2\x82", "\\xe2\\x82");
    CHECK_ESCAPE("\xe2\x82z", "\\xe2\\x82z");
    CHECK_ESCAPE("\xc0\xaf", "\\xc0\\xaf");
    CHECK_ESCAPE("\xc1\xbf", "\\xc1\\xbf");
    CHECK_ESCAPE("\xe0\x9f\xbf", "\\xe0\\x9f\\xbf");
    CHECK_ESCAPE("\xed\xa0\x80", "\\xed\\xa0\\x80");
    CHECK_ESCAPE("\xf0\x8f\xbf\xbf", "\\xf0\\x8f\\xbf\\xbf");
    CHECK_ESCAPE("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80");
    CHECK_ESCAPE("\xf5\x80\x80\x80", "\\xf5\\x80\\x80\\x80");
    CHECK_ESCAPE("\x80\xff", "\\x80\\xff");
    CHECK_ESCAPE("\xc2\x85\xc2\xa0", "\\xc2\\x85\xc2\xa0");
}

static void test_open(void **state)
{
    (void)state;
    struct stat before, after;
    assert_null(logfile_open(LOGFILE_ERROR, "-", true));
    assert_int_equal(fstat(STDERR_FILENO, &before), 0);
    char *wrong = logfile_open(LOGFILE_ERROR, "/nowhere/log", true);
    assert_non_null(strstr(wrong, "cannot open /nowhere/log: its directory does not exist"));
    free(wrong);
    assert_int_equal(fstat(STDERR_FILENO, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    /* Appends to what is there, and keeps open over exec for the programs of the application. */
    log_info("first");
    assert_null(logfile_open(LOGFILE_ERROR, path, true));
    log_info("second");
    dup2(real_stdout, STDOUT_FILENO);
    const char *text = written();
    assert_non_null(strstr(text, "first\n"));
    assert_non_null(strstr(text, "second\n"));
    assert_int_equal(fcntl(STDERR_FILENO, F_GETFD), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form_of_a_record),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_write_cannot_be_forged),
        cmocka_unit_test(test_long_texts_are_whole),
        cmocka_unit_test(test_block_is_indented),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_errno_survives),
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_open),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
