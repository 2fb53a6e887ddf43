/* Which file of which directory a path names. */
#include "worker/roots.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static char *settings[] = {"/static/=/srv/static", "/static/admin=/srv/admin", "/s=relative",
                           "/a=/b=c"};

static int load(void **state)
{
    const struct config config = {.static_dirs = {settings, 4}};
    (void)state;
    roots_load(&config);
    return 0;
}

static struct text text_of(const char *s)
{
    return (struct text){s, strlen(s)};
}

/* The directory and the name of a path, "-" without one. */
static const char *found(struct text path)
{
    static char text[2 * PATH_MAX];
    char name[PATH_MAX];
    const struct root *root = roots_of(path);
    if (!root)
        return "-";
    snprintf(text, sizeof(text), "%s %s", root->dir, roots_name(root, path, name) ? name : "-");
    return text;
}

static void test_paths(void **state)
{
    static const char *const rows[][2] = {
        {"/static/a.css", "/srv/static a.css"},
        {"/static/css/a.css", "/srv/static css/a.css"},
        {"/static/..a/...b", "/srv/static ..a/...b"},
        {"/static/admin/a.css", "/srv/admin a.css"},
        {"/static/adminx/a.css", "/srv/static adminx/a.css"},
        {"/static/a b\xc3\xa4%41", "/srv/static a b\xc3\xa4%41"},
        {"/a/x", "/b=c x"},
        {"/static", "/srv/static -"},
        {"/static/", "/srv/static -"},
        {"/static/admin", "/srv/admin -"},
        {"/static//a", "/srv/static -"},
        {"/static/a//b", "/srv/static -"},
        {"/static/a/", "/srv/static -"},
        {"/static/.", "/srv/static -"},
        {"/static/./a", "/srv/static -"},
        {"/static/..", "/srv/static -"},
        {"/static/../secret", "/srv/static -"},
        {"/static/a/../b", "/srv/static -"},
        {"/static/a/..", "/srv/static -"},
        {"/static//etc/passwd", "/srv/static -"},
        {"/static/a\nb", "/srv/static -"},
        {"/static/a\x7f", "/srv/static -"},
        {"/staticx/a", "-"},
        {"/stati", "-"},
        {"//static/a", "-"},
        {"/other", "-"},
        {"static/a", "-"},
        {"/", "-"},
        {"", "-"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_string_equal(found(text_of(rows[i][0])), rows[i][1]);
}

static void test_nul_and_length(void **state)
{
    char name[PATH_MAX], path[8 + PATH_MAX];
    const struct root *root = roots_of(text_of("/static/a"));
    (void)state;
    assert_false(roots_name(root, (struct text){"/static/a\0b", 11}, name));
    memset(path, 'x', sizeof(path));
    memcpy(path, "/static/", 8);
    assert_false(roots_name(root, (struct text){path, 8 + PATH_MAX}, name));
    assert_true(roots_name(root, (struct text){path, 8 + PATH_MAX - 1}, name));
    assert_int_equal(strlen(name), PATH_MAX - 1);
}

static void test_relative_directories_stay(void **state)
{
    char here[PATH_MAX];
    (void)state;
    const struct root *root = roots_of(text_of("/s/a"));
    assert_non_null(getcwd(here, sizeof(here)));
    assert_memory_equal(root->dir, here, strlen(here));
    assert_string_equal(root->dir + strlen(here), "/relative");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_nul_and_length),
        cmocka_unit_test(test_relative_directories_stay),
    };
    return cmocka_run_group_tests(tests, load, NULL);
}
