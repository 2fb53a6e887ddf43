/* Limits of control groups, from trees as the kernel shows them. */
#include "base/cgroup.c"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MB (1024.0 * 1024.0)

static char root[64];

/* Makes the directories of `path`, below `root`, and the file. */
static void write_file(const char *path, const char *text)
{
    char *whole = xasprintf("%s%s", root, path);
    for (char *p = whole + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        mkdir(whole, 0700);
        *p = '/';
    }
    FILE *file = fopen(whole, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    free(whole);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(root, "/tmp/myserver-cgroup-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    char *command = xasprintf("rm -r %s", root);
    int status = system(command);
    free(command);
    return status;
}

static bool is_near(double a, double b)
{
    return a - b < 0.001 && b - a < 0.001;
}

static void test_quotas(void **state)
{
    (void)state;
    write_file("/proc/self/cgroup", "0::/outer/inner\n");
    write_file("/sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n");
    assert_true(is_near(cgroup_cpus(root, 12), 12));
    write_file("/sys/fs/cgroup/outer/cpu.max", "250000 100000\n");
    assert_true(is_near(cgroup_cpus(root, 12), 2.5));
    assert_true(is_near(cgroup_cpus(root, 2), 2));
    write_file("/proc/self/cgroup", "0::/outer/inner/gone\n");
    assert_true(is_near(cgroup_cpus(root, 12), 2.5));
    write_file("/proc/self/cgroup", "0::/\n");
    assert_true(is_near(cgroup_cpus(root, 12), 12));
}

static void test_quotas_of_version_1(void **state)
{
    (void)state;
    write_file("/proc/self/cgroup", "5:memory:/elsewhere\n4:cpu,cpuacct:/outer/inner\n0::/\n");
    write_file("/sys/fs/cgroup/cpu/outer/inner/cpu.cfs_quota_us", "-1\n");
    write_file("/sys/fs/cgroup/cpu/outer/inner/cpu.cfs_period_us", "100000\n");
    assert_true(is_near(cgroup_cpus(root, 12), 12));
    write_file("/sys/fs/cgroup/cpu/outer/inner/cpu.cfs_quota_us", "150000\n");
    assert_true(is_near(cgroup_cpus(root, 12), 1.5));
}

static void check_memory(double limit_mb, double used_mb)
{
    struct cgroup_memory memory = cgroup_memory(root);
    assert_true(is_near((double)memory.limit_bytes / MB, limit_mb));
    assert_true(is_near((double)memory.used_bytes / MB, used_mb));
}

static void test_memory(void **state)
{
    (void)state;
    write_file("/proc/self/cgroup", "0::/pod/container\n");
    check_memory(0, 0);
    write_file("/sys/fs/cgroup/pod/container/memory.max", "max\n");
    write_file("/sys/fs/cgroup/pod/container/memory.high", "max\n");
    write_file("/sys/fs/cgroup/pod/container/memory.current", "104857600\n");
    check_memory(0, 0);
    write_file("/sys/fs/cgroup/pod/container/memory.max", "209715200\n");
    check_memory(200, 100);
    /* Pages of files that nobody uses are given back before anything is killed. */
    write_file("/sys/fs/cgroup/pod/container/memory.stat",
               "anon 10\nfile 62914560\ninactive_file 41943040\n");
    check_memory(200, 60);
    write_file("/sys/fs/cgroup/pod/container/memory.high", "157286400\n");
    check_memory(150, 60);
    /* The pod is larger and has less room left. */
    write_file("/sys/fs/cgroup/pod/memory.max", "314572800\n");
    write_file("/sys/fs/cgroup/pod/memory.current", "283115520\n");
    check_memory(300, 270);
}

static void test_memory_of_version_1(void **state)
{
    (void)state;
    /* In a container the path is the host's, and the container's group is the mount's root. */
    write_file("/proc/self/cgroup", "7:cpu:/\n5:memory:/docker/0123\n1:name=systemd:/x\n0::/\n");
    write_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    write_file("/sys/fs/cgroup/memory/memory.usage_in_bytes", "104857600\n");
    check_memory(0, 0);
    write_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728\n");
    write_file("/sys/fs/cgroup/memory/memory.stat",
               "inactive_file 1\ntotal_inactive_file 20971520\n");
    check_memory(128, 80);
}

static void test_what_is_no_cgroup_limits_nothing(void **state)
{
    static const char *const lines[] = {
        "",   "\n",           "x",  "1:name=systemd:/x\n", "3:cpuset:/\n", "0::relative\n",
        "::", "0:memory:x\n", ":/", "0::/no/such/group\n",
    };
    (void)state;
    check_memory(0, 0); /* no /proc at all */
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        write_file("/proc/self/cgroup", lines[i]);
        check_memory(0, 0);
        assert_true(is_near(cgroup_cpus(root, 12), 12));
    }
    write_file("/proc/self/cgroup", "0::/a\n");
    write_file("/sys/fs/cgroup/a/memory.max", "no number\n");
    write_file("/sys/fs/cgroup/a/cpu.max", "100000\n");
    check_memory(0, 0);
    assert_true(is_near(cgroup_cpus(root, 12), 12));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_quotas, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_quotas_of_version_1, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_of_version_1, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_no_cgroup_limits_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
