/* forks.c: what happens around a fork that the application asks for.
 *
 * Owns: the handlers, which stay for the life of the process (pthread_atfork(3) cannot remove
 * them): when a worker becomes a mold, its workers inherit them. */
#include "system/forks.h"
#include "base/base.h"
#include "system/listen.h"
#include "system/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* The local address of a socket. A connection accepted from a listening socket has the same one. */
struct local_name {
    int family;
    in_port_t port;
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
};

static bool is_followed, is_copy;
static _Thread_local bool is_own;      /* what this thread forks now is the server's own */
static struct local_name *local_names; /* of the listening sockets; owned */
static size_t name_count;
static _Thread_local sigset_t mask_at_fork;

static bool read_local_name(int fd, struct local_name *name)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } address;
    socklen_t len = sizeof(address), type_len = sizeof(int);
    int type = 0;
    memset(&address, 0, sizeof(address));
    memset(name, 0, sizeof(*name));
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) != 0 || type != SOCK_STREAM ||
        getsockname(fd, &address.any, &len) != 0)
        return false;
    name->family = address.any.sa_family;
    if (name->family == AF_INET)
        name->port = address.in.sin_port;
    else if (name->family == AF_INET6)
        name->port = address.in6.sin6_port;
    else if (name->family == AF_UNIX)
        memcpy(name->path, address.un.sun_path, sizeof(name->path));
    return true;
}

/* Whether `fd` is a listening socket of the server or a connection accepted from one. A socket that
 * the application has connected is bound to another port, or to no path. */
static bool is_client_or_listener(int fd)
{
    struct local_name name;
    if (!read_local_name(fd, &name))
        return false;
    for (size_t i = 0; i < name_count; i++)
        if (name.family == local_names[i].family && name.port == local_names[i].port &&
            memcmp(name.path, local_names[i].path, sizeof(name.path)) == 0)
            return true;
    return false;
}

/* Replaces these descriptors with /dev/null. They are not closed: a free number would be given to a
 * file of the application, and code that still takes it for a client would write into that file. */
static void let_go(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    const struct dirent *entry;
    while (directory && null_fd >= 0 && (entry = readdir(directory))) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] != '.' && is_client_or_listener(fd))
            (void)dup3(null_fd, fd, O_CLOEXEC);
    }
    if (directory)
        closedir(directory);
    if (null_fd >= 0)
        close(null_fd);
}

static void before_fork(void)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask_at_fork);
}

static void after_fork(void)
{
    pthread_sigmask(SIG_SETMASK, &mask_at_fork, NULL);
}

/* The inherited handlers would ignore signals that should end this process, such as
 * multiprocessing's terminate() sends. */
static void after_fork_in_child(void)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGQUIT, SIGUSR2};
    if (is_followed && !is_own) {
        for (size_t i = 0; i < ARRAY_LEN(ends); i++)
            signal(ends[i], SIG_DFL);
        is_copy = true;
        process_set_title("myserver: forked by the application");
        let_go();
    }
    after_fork();
}

void forks_follow(const struct listeners *listeners)
{
    static bool is_registered;
    local_names = xrealloc(local_names, listeners->count * sizeof(*local_names));
    name_count = 0;
    for (size_t i = 0; i < listeners->count; i++)
        if (read_local_name(listeners->items[i].fd, &local_names[name_count]))
            name_count++;
    is_followed = true;
    is_own = false;
    if (!is_registered && pthread_atfork(before_fork, after_fork, after_fork_in_child) != 0)
        die(EXIT_CRASH, "no memory for the handlers of forks");
    is_registered = true;
}

void forks_are_own(bool are)
{
    is_own = are;
}

bool forks_is_copy(void)
{
    return is_copy;
}
