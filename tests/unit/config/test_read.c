/* Where settings come from: names, origins, the ini file, the command line. What ends the
 * program here throws the sentence back to the test. */
#include "base/base.h"
#include "config/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static jmp_buf died;
static char sentence[1024];

NORETURN PRINTF_LIKE(2, 3) static void throw_sentence(enum exit_status status, const char *format,
                                                      ...)
{
    va_list args;

    assert(status == EXIT_CONFIG);
    va_start(args, format);
    vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    longjmp(died, 1);
}

/* The table has no boolean yet; the command line must know what to do with one. */
static const struct option flag = {.name = "flag", .type = OPTION_BOOL, .max = 1, .metavar = ""};

static const struct option *find_or_flag(const char *name)
{
    return strcmp(name, "flag") == 0 ? &flag : options_find(name);
}

static const struct option *find_negated_or_flag(const char *name)
{
    return strcmp(name, "no-flag") == 0 ? &flag : options_find_negated(name);
}

#define die                  throw_sentence
#define options_find         find_or_flag
#define options_find_negated find_negated_or_flag
#include "config/argv.c"
#include "config/ini.c"
#include "config/names.c"
#include "config/read.c"
#include "config/variables.c"
#undef die
#undef options_find
#undef options_find_negated

#include <cmocka.h>

/* The row of that server with that name. */
static const struct foreign *row_of(const char *server, const char *name)
{
    for (size_t i = 0; i < foreign_count; i++)
        if (strcmp(foreign_table[i].server, server) == 0 &&
            foreign_is_named(&foreign_table[i], name))
            return &foreign_table[i];
    return NULL;
}

static void test_foreign_options_have_names_of_ours_or_say_why_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < foreign_count; i++) {
        const struct foreign *row = &foreign_table[i];
        if (row->ours != NULL)
            assert_non_null(options_find(row->ours));
        else
            assert_non_null(row->note);
        assert_true(row->verdict == FOREIGN_KEPT || row->ours == NULL);
    }
    assert_string_equal(row_of("uWSGI", "pyhome")->ours, "virtualenv");
    assert_string_equal(row_of("gunicorn", "raw-env")->ours, "env");
    assert_null(row_of("uWSGI", "raw-env"));
    assert_null(row_of("uWSGI", "home="));
    assert_null(row_of("uWSGI", "hom"));
    static const struct {
        const char *server, *name;
        char flag;
        const char *meaning;
    } flags[] = {{"uWSGI", "harakiri", 't', "harakiri"},
                 {"uWSGI", "module", 'w', "wsgi"},
                 {"uWSGI", "harakiri", 'h', NULL},
                 {"gunicorn", "raw-env", 'e', "env"}};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        char *name = foreign_name_of_flag(row_of(flags[i].server, flags[i].name), flags[i].flag);
        assert_true((name == NULL) == (flags[i].meaning == NULL));
        if (name != NULL)
            assert_string_equal(name, flags[i].meaning);
        free(name);
    }
}

/* No name stands twice in the table of a server. */
static void test_foreign_names_stand_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < foreign_count; i++) {
        char *names = xstrdup(foreign_table[i].names), *rest = names, *word;
        while ((word = strsep(&rest, " ")) != NULL) {
            word += *word == '.';
            word[strcspn(word, "=[")] = '\0';
            if (*word != '-' && *word != '\0')
                assert_ptr_equal(row_of(foreign_table[i].server, word), &foreign_table[i]);
        }
        free(names);
    }
}

static void test_edit_distance(void **state)
{
    (void)state;
    assert_int_equal(edit_distance("", ""), 0);
    assert_int_equal(edit_distance("workers", "workers"), 0);
    assert_int_equal(edit_distance("worker", "workers"), 1);
    assert_int_equal(edit_distance("wokrers", "workers"), 1);
    assert_int_equal(edit_distance("", "bind"), 4);
    assert_int_equal(edit_distance("kitten", "sitting"), 3);
    assert_true(edit_distance("a name that is longer than any option can be", "bind") >= 40);
}

static void test_nearest_name(void **state)
{
    (void)state;
    assert_string_equal(nearest_name("thread", false), "threads");
    assert_string_equal(nearest_name("limit-request-feilds", false), "limit-request-fields");
    assert_null(nearest_name("hlep", false));
    assert_string_equal(nearest_name("hlep", true), "help");
    assert_null(nearest_name("zebra", true));
}

static void forget(struct reader *r)
{
    free_settings(r);
    r->settings = NULL;
    r->count = 0;
}

static void test_booleans_on_the_command_line(void **state)
{
    struct command c;

    (void)state;
    argv_read(&c, (char *[]){"--flag", "--no-flag", "--no_flag", NULL});
    assert_int_equal(c.verb, COMMAND_SERVE);
    assert_int_equal(c.count, 3);
    assert_string_equal(c.arguments[0].value, "true");
    assert_string_equal(c.arguments[1].value, "false");
    assert_ptr_equal(c.arguments[2].option, &flag);
    argv_free(&c);
}

static const char *volatile expected;

/* For arguments that must be refused. */
static void check_refused(char **argv, const char *text)
{
    struct command c;

    expected = text;
    if (setjmp(died) == 0) {
        argv_read(&c, argv);
        fail_msg("not refused: %s", expected);
    }
    assert_string_equal(sentence, expected);
}

static void test_values_that_stand_where_none_may(void **state)
{
    (void)state;
    check_refused((char *[]){"-Z", NULL},
                  "command line: there is no option -Z; myserver --help lists them");
    check_refused((char *[]){"-b", NULL}, "command line: --bind needs a value; write --bind ADDR");
    check_refused((char *[]){"-hx", NULL}, "command line: --help takes no value; write --help");
}

static void test_later_origins_win_and_lists_are_replaced(void **state)
{
    struct config c = {0};
    struct reader r = {.config = &c};
    const struct option *bind = options_find("bind"), *threads = options_find("threads");

    (void)state;
    apply_defaults(&r);
    add_setting(&r, (struct setting){bind, NULL, xstrdup("line:1"), ORIGIN_ARGV, 0});
    add_setting(&r, (struct setting){threads, NULL, xstrdup("3"), ORIGIN_ARGV, 0});
    add_setting(&r, (struct setting){bind, NULL, xstrdup("line:2"), ORIGIN_ARGV, 0});
    add_setting(&r, (struct setting){bind, NULL, xstrdup("ini:1"), ORIGIN_INI, 7});
    apply_all(&r, ORIGIN_INI);
    assert_int_equal(c.bind.count, 1);
    assert_string_equal(c.bind.items[0], "ini:1");
    assert_int_equal(c.threads, 1);
    apply_all(&r, ORIGIN_ARGV);
    assert_int_equal(c.bind.count, 2);
    assert_string_equal(c.bind.items[1], "line:2");
    assert_int_equal(c.threads, 3);
    assert_string_equal(setting_of(&r, OPTION_INDEX_bind, 1)->value, "line:2");
    assert_null(setting_of(&r, OPTION_INDEX_backlog, 0));
    forget(&r);
    options_free(&c);
}

static void check_expanded(const char *text, const char *result)
{
    struct config_ini_line line = {.name = "chdir", .value = xstrdup(text), .number = 3};

    expand("it.ini", &line);
    assert_string_equal(line.value, result);
    free(line.value);
}

static void test_variables_are_expanded_once(void **state)
{
    (void)state;
    setenv("MYSERVER_TEST", "${HOME} $$", 1);
    setenv("MYSERVER_EMPTY", "", 1);
    check_expanded("", "");
    check_expanded("plain", "plain");
    check_expanded("a$$b$${X}", "a$b${X}");
    check_expanded("${MYSERVER_TEST}", "${HOME} $$");
    check_expanded("<${MYSERVER_EMPTY}${MYSERVER_TEST}>", "<${HOME} $$>");
    unsetenv("MYSERVER_TEST");
    unsetenv("MYSERVER_EMPTY");
}

static void test_variables_have_defaults(void **state)
{
    (void)state;
    setenv("SET", "${HOME} $$", 1);
    setenv("EMPTY", "", 1);
    unsetenv("UNSET");
    check_expanded("${SET:-x}", "${HOME} $$");
    check_expanded("${UNSET:-x}/${EMPTY:-y z:-}", "x/y z:-");
    check_expanded("<${UNSET:-}>", "<>");
    check_expanded("${UNSET:-$$a}b", "$ab");
    check_expanded("${UNSET:-<${EMPTY:-${SET}}>}}", "<${HOME} $$>}");
    check_expanded("0.0.0.0:${UNSET:-8321}", "0.0.0.0:8321");
}

static void check_words(const char *text, char **expected_words)
{
    char **words = config_variables_words(text);
    size_t i = 0;

    for (; words[i]; free(words[i++])) {
        assert_non_null(expected_words[i]);
        assert_string_equal(words[i], expected_words[i]);
    }
    assert_null(expected_words[i]);
    free(words);
}

/* As sh splits them (POSIX XCU 2.2 and 2.6.5, without expansions). */
static void test_words_are_split_as_a_shell_does(void **state)
{
    (void)state;
    check_words("", (char *[]){NULL});
    check_words(" \t\n", (char *[]){NULL});
    check_words("--bind=:1  -w 2", (char *[]){"--bind=:1", "-w", "2", NULL});
    check_words("'a b'\"c d\" '' \"\"", (char *[]){"a bc d", "", "", NULL});
    check_words("a\\ b \"\\\"\\x\" 'x\\' \\", (char *[]){"a b", "\"\\x", "x\\", "\\", NULL});
    assert_null(config_variables_words("a 'b"));
    assert_null(config_variables_words("a \"b\\\""));
}

static void write_ini_file(const char *text, char *path)
{
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Nothing of a file with an error is looked up, let alone applied. */
static void test_a_broken_file_changes_nothing(void **state)
{
    char path[] = "/tmp/myserver-ini-XXXXXX";
    struct config_ini ini;

    (void)state;
    write_ini_file("[myserver]\nthreads = 7\nnothing\nbackolg = 3\n", path);
    if (setjmp(died) == 0) {
        config_ini_read(&ini, path);
        fail_msg("not refused");
    }
    assert_non_null(strstr(sentence, ":3: this is no setting"));
    config_ini_free(&ini);
    unlink(path);
}

static void test_lines_are_counted(void **state)
{
    char path[] = "/tmp/myserver-ini-XXXXXX";
    struct config c = {.ini_path = path};
    struct reader r = {.config = &c};

    (void)state;
    write_ini_file("\n; c\n[myserver]\n\nthreads=7\n  # c\n\t bind = a = b ; c\nbind: c;d", path);
    read_ini(&r);
    unlink(path);
    assert_int_equal(r.count, 3);
    assert_int_equal(r.settings[0].line, 5);
    assert_int_equal(r.settings[1].line, 7);
    assert_string_equal(r.settings[1].value, "a = b");
    assert_int_equal(r.settings[2].line, 8);
    assert_string_equal(r.settings[2].value, "c;d");
    forget(&r);
}

static void test_read_and_free(void **state)
{
    struct config c;
    char *argv[] = {"myserver", "--check-config", "-w", "2", "shop.wsgi", NULL};

    (void)state;
    assert_int_equal(config_read(&c, 5, argv).verb, COMMAND_CHECK);
    assert_string_equal(c.app, "shop.wsgi");
    assert_int_equal(c.workers, 2);
    assert_int_equal(c.keep_alive_ms, 100000);
    assert_int_equal(c.limit_request_body_bytes, 1 << 30);
    assert_string_equal(c.script_name, "");
    assert_null(c.access_logfile);
    options_free(&c);
    assert_null(c.app);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_options_have_names_of_ours_or_say_why_not),
        cmocka_unit_test(test_foreign_names_stand_once),
        cmocka_unit_test(test_edit_distance),
        cmocka_unit_test(test_nearest_name),
        cmocka_unit_test(test_booleans_on_the_command_line),
        cmocka_unit_test(test_values_that_stand_where_none_may),
        cmocka_unit_test(test_later_origins_win_and_lists_are_replaced),
        cmocka_unit_test(test_variables_are_expanded_once),
        cmocka_unit_test(test_variables_have_defaults),
        cmocka_unit_test(test_words_are_split_as_a_shell_does),
        cmocka_unit_test(test_a_broken_file_changes_nothing),
        cmocka_unit_test(test_lines_are_counted),
        cmocka_unit_test(test_read_and_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
