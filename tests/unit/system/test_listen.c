/* Listening sockets: every form of a bind, stale and live unix sockets, adoption, refusals. */
#include "system/listen.c"

#include <arpa/inet.h>
#include <setjmp.h>
#include <sys/wait.h>

#include <cmocka.h>

static char dir[] = "/tmp/test_listen.XXXXXX";

static void open_binds(struct listeners *all, size_t count, char **binds)
{
    struct config config = {.bind = {.items = binds, .count = count}};
    listen_open(all, "bind", &config.bind, &config, 16, 0600);
}
#define OPEN(all, ...)                                                                             \
    open_binds(all, sizeof(char *[]){__VA_ARGS__} / sizeof(char *), (char *[]){__VA_ARGS__})

static char *in_dir(const char *prefix, const char *name)
{
    static char text[4][256];
    static int next;
    char *out = text[next++ % 4];
    snprintf(out, sizeof text[0], "%s%s/%s", prefix, dir, name);
    return out;
}

/* Opens the binds in a child: they must be refused with status 2 and a sentence with `part`. */
static void refuses(enum exit_status expected, const char *part, size_t count, char **binds)
{
    int ends[2], status;
    char text[1024];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct listeners all;
        dup2(ends[1], STDERR_FILENO);
        open_binds(&all, count, binds);
        _exit(0);
    }
    close(ends[1]);
    ssize_t len = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    text[len > 0 ? len : 0] = '\0';
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), expected);
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in: %s", part, text);
}
#define REFUSES_WITH(status, part, ...)                                                            \
    refuses(status, part, sizeof(char *[]){__VA_ARGS__} / sizeof(char *), (char *[]){__VA_ARGS__})
#define REFUSES(part, ...) REFUSES_WITH(EXIT_CONFIG, part, __VA_ARGS__)

static int connected(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int error = connect(fd, (struct sockaddr *)&address, sizeof address) ? errno : 0;
    close(fd);
    return error;
}

static void test_protocols(void **state)
{
    (void)state;
    static const struct {
        const char *bind, *address;
        bool is_uwsgi;
    } cases[] = {
        {"127.0.0.1:80", "127.0.0.1:80", false},
        {"uwsgi:127.0.0.1:80", "127.0.0.1:80", true},
        {"uwsgi::80", ":80", true},
        {"uwsgi:[::1]:80", "[::1]:80", true},
        {"uwsgi:unix:/a", "unix:/a", true},
        {"uwsgi:fd://3", "fd://3", true},
        {"uwsgi:80", "uwsgi:80", false}, /* a host of that name */
        {"unix:uwsgi:a", "unix:uwsgi:a", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool is_uwsgi;
        assert_string_equal(listen_address(cases[i].bind, &is_uwsgi), cases[i].address);
        assert_int_equal(is_uwsgi, cases[i].is_uwsgi);
    }
    struct listeners all;
    OPEN(&all, "uwsgi:127.0.0.1:0", "127.0.0.1:0");
    assert_true(all.items[0].is_uwsgi && !all.items[1].is_uwsgi);
    assert_string_equal(all.items[0].bind, "127.0.0.1:0");
    assert_memory_equal(all.items[0].name, "uwsgi:127.0.0.1:", 16);
    listen_close(&all, true);
}

static void test_tcp(void **state)
{
    (void)state;
    struct listeners all;
    char expected[64];
    OPEN(&all, "127.0.0.1:0", ":0");
    assert_int_equal(all.count, 2);
    struct listener *l = &all.items[0];
    assert_int_equal(l->family, AF_INET);
    assert_string_equal(l->server_name, "127.0.0.1");
    assert_true(atoi(l->server_port) > 0);
    snprintf(expected, sizeof expected, "127.0.0.1:%s", l->server_port);
    assert_string_equal(l->name, expected);
    assert_null(l->unlink_path);
    assert_true(fcntl(l->fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(fcntl(l->fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(socket_option(l->fd, SO_ACCEPTCONN), 1);
    assert_int_equal(socket_option(l->fd, SO_REUSEADDR), 1);
    assert_string_equal(all.items[1].server_name, "0.0.0.0");
    REFUSES_WITH(EXIT_CRASH, "Address already in use", l->name);
    listen_close(&all, true);
    assert_int_equal(all.count, 0);
}

static void test_ipv6(void **state)
{
    (void)state;
    struct listeners all;
    int only = 0;
    socklen_t len = sizeof only;
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    if (probe < 0)
        skip();
    close(probe);
    OPEN(&all, "[::1]:0");
    assert_int_equal(all.items[0].family, AF_INET6);
    assert_memory_equal(all.items[0].name, "[::1]:", 6);
    assert_string_equal(all.items[0].server_name, "::1");
    assert_int_equal(getsockopt(all.items[0].fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &len), 0);
    assert_int_equal(only, 1);
    listen_close(&all, true);
}

static void test_host_name(void **state)
{
    (void)state;
    struct listeners all;
    OPEN(&all, "localhost:0");
    assert_true(all.count >= 1);
    listen_close(&all, true);
}

static void test_unix(void **state)
{
    (void)state;
    struct listeners all;
    struct stat file;
    char *path = in_dir("", "a.sock"), *bind_text = in_dir("unix:", "a.sock");
    mode_t old_umask = umask(0);
    OPEN(&all, bind_text);
    assert_int_equal(umask(old_umask), 0);
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0600);
    assert_string_equal(all.items[0].name, bind_text);
    assert_string_equal(all.items[0].server_name, "");
    assert_string_equal(all.items[0].server_port, "");
    assert_int_equal(connected(path), 0);
    REFUSES_WITH(EXIT_CRASH, "in use by another server", bind_text);
    listen_close(&all, true);
    assert_int_equal(stat(path, &file), -1);
}

static void test_stale_unix_socket_is_replaced(void **state)
{
    (void)state;
    struct listeners all;
    char *path = in_dir("", "b.sock"), *bind_text = in_dir("unix:", "b.sock");
    OPEN(&all, bind_text);
    listen_close(&all, false);
    assert_int_equal(connected(path), ECONNREFUSED);
    OPEN(&all, bind_text);
    assert_int_equal(connected(path), 0);
    listen_close(&all, true);
}

static void test_only_our_path_is_removed(void **state)
{
    (void)state;
    struct listeners ours, theirs;
    char *path = in_dir("", "c.sock"), *bind_text = in_dir("unix:", "c.sock");
    OPEN(&ours, bind_text);
    assert_int_equal(rename(path, in_dir("", "moved.sock")), 0);
    OPEN(&theirs, bind_text);
    listen_close(&ours, true);
    assert_int_equal(connected(path), 0);
    listen_close(&theirs, true);
    unlink(in_dir("", "moved.sock"));
}

static void test_refused_unix_paths(void **state)
{
    (void)state;
    char long_bind[160] = "unix:/";
    struct stat file;
    memset(long_bind + 6, 'x', sizeof long_bind - 7);
    close(creat(in_dir("", "file"), 0600));
    REFUSES("exists and is not a socket", in_dir("unix:", "file"));
    REFUSES("its directory does not exist", in_dir("unix:", "none/a.sock"));
    REFUSES("longer than 107 bytes", long_bind);
    REFUSES("unix:PATH", "unix:");
    unlink(in_dir("", "file"));
    /* What was opened before the refusal is not left behind. */
    REFUSES("is none of", in_dir("unix:", "d.sock"), "nonsense");
    assert_int_equal(stat(in_dir("", "d.sock"), &file), -1);
}

static void test_fd(void **state)
{
    (void)state;
    struct listeners all, adopted;
    char text[32];
    OPEN(&all, "127.0.0.1:0");
    int fd = dup(all.items[0].fd);
    snprintf(text, sizeof text, "fd://%d", fd);
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    OPEN(&adopted, text);
    assert_int_equal(adopted.items[0].fd, fd);
    assert_int_equal(adopted.items[0].family, AF_INET);
    assert_string_equal(adopted.items[0].name, text);
    assert_string_equal(adopted.items[0].server_port, all.items[0].server_port);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    REFUSES("given twice", text, text);
    listen_close(&adopted, true);
    REFUSES("not a listening stream socket", text);
    listen_close(&all, true);
    REFUSES("not a listening stream socket", "fd://0");
    REFUSES("is none of", "fd://x");
    REFUSES("is none of", "fd://");
    REFUSES("is none of", "fd://3x");
}

static void test_malformed(void **state)
{
    (void)state;
    static char *const wrong[] = {
        "",        "8000",    "127.0.0.1", "127.0.0.1:",          "::1:80",     "host:65536",
        "host:-1", "host:8x", "/tmp/a:80", "http://127.0.0.1:80", "host:123456"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        REFUSES("is none of", wrong[i]);
    REFUSES("cannot be resolved", "no.such.host.invalid:80");
    REFUSES("cannot be resolved", "[127.0.0.1]:80");
    REFUSES_WITH(EXIT_CRASH, "cannot listen on", "192.0.2.1:80");
}

static void test_backlog_is_clamped(void **state)
{
    (void)state;
    unsigned clamped = clamp_backlog(10000000);
    assert_true(clamped >= 1 && clamped < 10000000);
    assert_int_equal(clamp_backlog(1), 1);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_protocols),
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_host_name),
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_stale_unix_socket_is_replaced),
        cmocka_unit_test(test_only_our_path_is_removed),
        cmocka_unit_test(test_refused_unix_paths),
        cmocka_unit_test(test_fd),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_backlog_is_clamped),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
