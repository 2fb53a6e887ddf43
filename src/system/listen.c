/* listen.c: listening sockets, from what the user wrote to descriptors that may be accepted on.
 *
 * Owns the descriptors and the files of the unix sockets it made. Runs in the master before the
 * first fork, with one thread (it changes the umask for a moment), and when the master ends.
 * Never accepts. Whatever is wrong with an address ends the program with one sentence. */
#include "system/listen.h"

#include "base/log.h"
#include "config/origin.h"
#include "config/settings.h"
#include "system/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SOMAXCONN_PATH "/proc/sys/net/core/somaxconn"

struct open_context {
    struct listeners *all;
    const char *option;
    const char *bind;    /* what is being opened, as the user wrote it */
    const char *address; /* the same without "uwsgi:" */
    bool is_uwsgi;
    const struct config *config; /* borrowed */
    unsigned backlog;
    mode_t unix_mode;
};

/* When the address is still in use, the interface not up yet, or a resource short, no setting is
 * wrong, and a later start may succeed: EXIT_CRASH. */
static enum exit_status status_of(int error)
{
    bool may_pass = error == EADDRINUSE || error == EADDRNOTAVAIL || error == EMFILE ||
                    error == ENFILE || error == ENOBUFS || error == ENOMEM;
    return may_pass ? EXIT_CRASH : EXIT_CONFIG;
}

const char *listen_address(const char *bind, bool *is_uwsgi)
{
    size_t len = strlen("uwsgi:");
    /* "uwsgi:8000" is the port of a host of that name */
    *is_uwsgi = strncmp(bind, "uwsgi:", len) == 0 && strchr(bind + len, ':');
    return *is_uwsgi ? bind + len : bind;
}

/* What is to be opened next. */
static void begin(struct open_context *context, const char *bind)
{
    context->bind = context->address = bind;
    context->is_uwsgi = false;
    if (strcmp(context->option, "bind") == 0)
        context->address = listen_address(bind, &context->is_uwsgi);
}

/* Takes `name`, and returns what the log calls the listener. */
static char *with_protocol(const struct listener *l, char *name)
{
    if (!l->is_uwsgi)
        return name;
    char *whole = xasprintf("uwsgi:%s", name);
    free(name);
    return whole;
}

/* Ends the program, after removing the unix sockets that this option has made. */
static NORETURN PRINTF_LIKE(3, 4) void refuse_with(const struct open_context *context,
                                                   enum exit_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *sentence = xvasprintf(format, args);
    va_end(args);
    listen_close(context->all, true);
    config_origin_die(status, context->option, context->bind, "%s", sentence);
}
#define refuse(context, ...) refuse_with(context, EXIT_CONFIG, __VA_ARGS__)

static NORETURN void refuse_address(const struct open_context *context, int error)
{
    refuse_with(context, status_of(error), "cannot listen on %s: %s", context->bind,
                strerror(error));
}

static struct listener *add(struct open_context *context, int fd, int family)
{
    struct listeners *all = context->all;
    int on = 1;
    if (family != AF_UNIX) /* accepted sockets inherit it: no system call for each of them */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    all->items = xrealloc(all->items, (all->count + 1) * sizeof *all->items);
    struct listener *l = &all->items[all->count++];
    *l = (struct listener){.fd = fd,
                           .family = family,
                           .bind = xstrdup(context->address),
                           .is_uwsgi = context->is_uwsgi,
                           .made = true};
    return l;
}

static void start(const struct open_context *context, int fd)
{
    if (listen(fd, (int)context->backlog) != 0)
        refuse_address(context, errno);
}

/* Stores address and port of a TCP socket as numbers; for port 0, the one that the kernel chose. */
static void name_tcp(const struct open_context *context, struct listener *l)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    int error = 0;
    if (getsockname(l->fd, (struct sockaddr *)&address, &len) != 0)
        error = EAI_SYSTEM;
    else
        error = getnameinfo((struct sockaddr *)&address, len, l->server_name, sizeof l->server_name,
                            l->server_port, sizeof l->server_port, NI_NUMERICHOST | NI_NUMERICSERV);
    if (error)
        refuse(context, "%s has no address: %s", context->bind, gai_strerror(error));
}

/* ---- host:port ---- */

/* The kernel queues a connection only when its request is there. Otherwise a worker could accept
 * it, run another request that comes first, and leave this one unread meanwhile. A client that
 * sends nothing is queued after a second. Not for the control process's sockets. */
static void defer_accept(const struct open_context *context, int fd)
{
    int defer_s = 1;
    if (strcmp(context->option, "bind") == 0 &&
        setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer_s, sizeof defer_s) != 0)
        log_debug("%s: connections come before their requests: %s", context->bind, strerror(errno));
}

static char *tcp_name(const struct listener *l)
{
    return with_protocol(
        l, xasprintf(l->family == AF_INET6 ? "[%s]:%s" : "%s:%s", l->server_name, l->server_port));
}

static bool is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits >= 1 && digits <= 5 && text[digits] == '\0' && atoi(text) <= 65535;
}

/* Whether a bind, as the user wrote it, takes IPv4 connections to this port. */
static bool takes_ipv4(const char *bind, unsigned port)
{
    const char *colon = bind ? strrchr(bind, ':') : NULL;
    struct sockaddr_in address = {0};
    socklen_t len = sizeof address;
    bool is_uwsgi;
    bind = bind ? listen_address(bind, &is_uwsgi) : NULL;
    if (bind && strncmp(bind, "fd://", 5) == 0)
        return getsockname(atoi(bind + 5), (struct sockaddr *)&address, &len) == 0 &&
               address.sin_family == AF_INET && ntohs(address.sin_port) == port;
    bool is_ipv6 = bind && bind[0] == '[' && strncasecmp(bind, "[::ffff:", 8) != 0;
    return colon && !is_ipv6 && is_port(colon + 1) && (unsigned)atoi(colon + 1) == port;
}

/* Whether a socket of [::] must leave the port's IPv4 connections to another one. */
static bool is_shared_port(const struct config *config, unsigned port)
{
    bool shared = takes_ipv4(config->control, port) || takes_ipv4(config->stats, port);
    for (size_t i = 0; i < config->bind.count; i++)
        shared |= takes_ipv4(config->bind.items[i], port);
    return shared && port != 0;
}

/* [::] is for both families, whatever the system's default is, unless that port is taken. */
static int is_ipv6_only(const struct open_context *context, const struct addrinfo *address)
{
    const struct sockaddr_in6 *in6 = (const void *)address->ai_addr;
    if (IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr))
        return is_shared_port(context->config, ntohs(in6->sin6_port));
    return !IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
}

/* Returns the errno of the failure, 0 when it listens. */
static int try_tcp(struct open_context *context, const struct addrinfo *address)
{
    int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    int only = address->ai_family == AF_INET6 && is_ipv6_only(context, address);
    /* Without SO_REUSEADDR a restart fails while connections of the last run are in TIME_WAIT. With
     * IPV6_V6ONLY, [::]:80 and 0.0.0.0:80 can be open together. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        (address->ai_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) != 0) ||
        bind(fd, address->ai_addr, address->ai_addrlen) != 0) {
        int error = errno;
        close(fd);
        return error;
    }
    defer_accept(context, fd);
    start(context, fd);
    struct listener *l = add(context, fd, address->ai_family);
    name_tcp(context, l);
    l->name = tcp_name(l);
    return 0;
}

/* Opens all addresses of a name. One that this machine does not have (::1 for localhost where IPv6
 * is off) is left out, if another remains. */
static void open_addresses(struct open_context *context, const struct addrinfo *addresses)
{
    int missing = 0;
    size_t before = context->all->count;
    for (const struct addrinfo *a = addresses; a; a = a->ai_next) {
        int error = try_tcp(context, a);
        if (error == EADDRNOTAVAIL || error == EAFNOSUPPORT)
            missing = error;
        else if (error)
            refuse_address(context, error);
    }
    if (context->all->count == before)
        refuse_address(context, missing);
}

static NORETURN void refuse_malformed(const struct open_context *context)
{
    refuse(context, "%s is none of HOST:PORT, [IPV6]:PORT, :PORT, unix:PATH, fd://N%s",
           context->bind,
           strcmp(context->option, "bind") == 0 ? ", or one of these behind uwsgi:" : ", /PATH");
}

/* Returns the host, to be freed; `port` borrows from the text. */
static char *split_host(const struct open_context *context, const char **port)
{
    const char *text = context->address, *colon = strrchr(text, ':');
    if (!colon || !is_port(colon + 1))
        refuse_malformed(context);
    *port = colon + 1;
    size_t len = (size_t)(colon - text);
    if (len == 0)
        return xstrdup("0.0.0.0");
    if (text[0] == '[' && text[len - 1] == ']')
        return xasprintf("%.*s", (int)len - 2, text + 1);
    /* An IPv6 address without brackets cannot be told from its port. */
    if (memchr(text, ':', len) || memchr(text, '/', len))
        refuse_malformed(context);
    return xasprintf("%.*s", (int)len, text);
}

static void open_tcp(struct open_context *context)
{
    const char *port;
    char *host = split_host(context, &port);
    struct addrinfo *addresses;
    struct addrinfo hints = {
        .ai_family = context->address[0] == '[' ? AF_INET6 : AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
    };
    int error = getaddrinfo(host, port, &hints, &addresses);
    if (error)
        refuse(context, "the host of %s cannot be resolved: %s", context->bind,
               gai_strerror(error));
    open_addresses(context, addresses);
    freeaddrinfo(addresses);
    free(host);
}

/* ---- unix:path ---- */

/* Removes the socket file of a server that is gone. If connect succeeds, or the queue is full
 * (EAGAIN), that server is alive. */
static void remove_stale(const struct open_context *context, const struct sockaddr_un *address)
{
    struct stat file;
    if (lstat(address->sun_path, &file) != 0) {
        if (errno == ENOENT)
            return;
        refuse(context, "unix:%s: %s", address->sun_path, strerror(errno));
    }
    if (!S_ISSOCK(file.st_mode))
        refuse(context, "unix:%s exists and is not a socket", address->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        refuse(context, "no unix socket: %s", strerror(errno));
    int error = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : errno;
    close(fd);
    if (error == 0 || error == EAGAIN)
        refuse_with(context, EXIT_CRASH, "unix:%s is in use by another server", address->sun_path);
    if (error != ECONNREFUSED)
        refuse(context, "unix:%s: %s", address->sun_path, strerror(error));
    if (unlink(address->sun_path) != 0)
        refuse(context, "cannot remove the stale unix:%s: %s", address->sun_path, strerror(errno));
}

static NORETURN void refuse_path(const struct open_context *context, const char *path, int error)
{
    if (error == ENOENT || error == ENOTDIR)
        refuse(context,
               "cannot make unix:%s: its directory does not exist; make it, or let the "
               "service manager do that (RuntimeDirectory)",
               path);
    refuse(context, "cannot make unix:%s: %s", path, strerror(error));
}

static int bind_unix(const struct open_context *context, const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* bind(2) creates the file with mode 0777 & ~umask, so it never has another mode. */
    mode_t old_umask = umask(0777 & ~context->unix_mode);
    int error = fd < 0 || bind(fd, (const struct sockaddr *)address, sizeof *address) ? errno : 0;
    umask(old_umask);
    if (error)
        refuse_path(context, address->sun_path, error);
    return fd;
}

static void check_path(const struct open_context *context, const char *path)
{
    size_t room = sizeof((struct sockaddr_un *)NULL)->sun_path - 1;
    if (path[0] == '\0')
        refuse_malformed(context);
    if (strlen(path) > room)
        refuse(context, "the path of %s is longer than %zu bytes", context->bind, room);
}

/* An absolute path, since the working directory may be another one when the socket is removed. Only
 * the directory is resolved: its last part could be a link that somebody puts there. Owned by the
 * caller. */
static char *resolve_directory(const struct open_context *context, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char *written = directory_of(path);
    char *directory = realpath(written, NULL);
    if (!directory)
        refuse_path(context, path, errno);
    char *whole = xasprintf("%s/%s", directory, name);
    free(directory);
    free(written);
    return whole;
}

/* Takes `whole`. */
static void note_path(const struct open_context *context, struct listener *l, const char *path,
                      char *whole)
{
    struct stat file;
    if (lstat(whole, &file) != 0)
        refuse(context, "unix:%s has vanished: %s", path, strerror(errno));
    l->name = with_protocol(l, xasprintf("unix:%s", path));
    l->unlink_path = whole;
    l->path_device = file.st_dev;
    l->path_inode = file.st_ino;
}

static void open_unix(struct open_context *context, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    check_path(context, path);
    strcpy(address.sun_path, path);
    char *whole = resolve_directory(context, path);
    remove_stale(context, &address);
    struct listener *l = add(context, bind_unix(context, &address), AF_UNIX);
    note_path(context, l, path, whole);
    start(context, l->fd);
}

/* ---- fd://N ---- */

static int socket_option(int fd, int option)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

static int parse_fd(const struct open_context *context, const char *digits)
{
    size_t len = strspn(digits, "0123456789");
    if (len == 0 || len > 6 || digits[len] != '\0')
        refuse_malformed(context);
    int fd = atoi(digits);
    for (size_t i = 0; i < context->all->count; i++)
        if (context->all->items[i].fd == fd)
            refuse(context, "%s is given twice, or is not an inherited descriptor", context->bind);
    return fd;
}

/* Takes over a listening socket that another program or master has opened. */
static struct listener *adopt(struct open_context *context, int fd)
{
    if (socket_option(fd, SO_TYPE) != SOCK_STREAM || socket_option(fd, SO_ACCEPTCONN) != 1)
        refuse(context, "%s is not a listening stream socket", context->bind);
    int family = socket_option(fd, SO_DOMAIN);
    if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
        refuse(context, "%s is neither a TCP nor a unix socket", context->bind);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        refuse(context, "%s: %s", context->bind, strerror(errno));
    struct listener *l = add(context, fd, family);
    l->made = false;
    l->shared = true;
    if (family != AF_UNIX)
        name_tcp(context, l);
    return l;
}

static void open_fd(struct open_context *context, const char *digits)
{
    adopt(context, parse_fd(context, digits))->name = xstrdup(context->bind);
}

/* ---- from systemd, or from the master before ---- */

/* "fd://N" for a socket without a path, such as an abstract one. */
static char *unix_name(int fd)
{
    struct sockaddr_un address = {0};
    socklen_t len = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &len) == 0 && address.sun_path[0] == '/')
        return xasprintf("unix:%.*s", (int)sizeof address.sun_path, address.sun_path);
    return xasprintf("fd://%d", fd);
}

/* The settings may have another mode than the file of the master before. */
static void take_path(const struct open_context *context, struct listener *l, const char *path)
{
    note_path(context, l, path, resolve_directory(context, path));
    if (chmod(path, context->unix_mode) != 0)
        log_warning("%s keeps its mode: %s", l->name, strerror(errno));
}

/* Takes all inherited sockets that are known by context->address, whatever they spoke before.
 * False: there is none. */
static bool take_inherited(struct open_context *context)
{
    bool made, any = false;
    int fd;
    for (; (fd = inherit_take(context->address, &made)) >= 0; any = true) {
        struct listener *l = adopt(context, fd);
        l->made = made;
        if (made) /* again, since the setting of backlog may have changed */
            start(context, fd);
        if (l->family != AF_UNIX)
            l->name = tcp_name(l);
        else if (made)
            take_path(context, l, context->address + strlen("unix:"));
        else
            l->name = with_protocol(l, unix_name(fd));
    }
    return any;
}

bool listen_activated(struct listeners *all)
{
    struct open_context context = {.all = all, .option = "socket activation"};
    *all = (struct listeners){0};
    begin(&context, INHERIT_SYSTEMD);
    bool any = take_inherited(&context);
    begin(&context, INHERIT_SYSTEMD_UWSGI);
    context.is_uwsgi = true;
    return take_inherited(&context) || any;
}

char *listen_urls(const struct listeners *all)
{
    char *urls = xstrdup("");
    for (size_t i = 0; i < all->count; i++) {
        const struct listener *l = &all->items[i];
        bool is_tcp = l->family != AF_UNIX, is_url = is_tcp && !l->is_uwsgi;
        char *name = is_tcp ? tcp_name(l) : xstrdup(l->name);
        char *longer = xasprintf("%s%s%s%s%s", urls, i > 0 ? ", " : "", is_url ? "http://" : "",
                                 name, is_url ? "/" : "");
        free(name);
        free(urls);
        urls = longer;
    }
    return urls;
}

void listen_set_shared(struct listeners *all, bool shared)
{
    for (size_t i = 0; i < all->count; i++)
        all->items[i].shared = shared || !all->items[i].made;
}

void listen_pass_on(const struct listeners *all)
{
    for (size_t i = 0; i < all->count; i++)
        inherit_pass_on(all->items[i].fd, all->items[i].made, all->items[i].bind);
}

/* ---- all of them ---- */

/* The kernel does the same, but without a warning. */
static unsigned clamp_backlog(unsigned backlog)
{
    unsigned somaxconn = backlog;
    FILE *file = fopen(SOMAXCONN_PATH, "re");
    if (file) {
        if (fscanf(file, "%u", &somaxconn) != 1)
            somaxconn = backlog;
        fclose(file);
    }
    if (somaxconn >= backlog)
        return backlog;
    log_warning("backlog is %u instead of %u: raise net.core.somaxconn for more", somaxconn,
                backlog);
    return somaxconn;
}

void listen_open(struct listeners *all, const char *option, const struct config_list *binds,
                 const struct config *config, unsigned backlog, mode_t unix_mode)
{
    struct open_context context = {.all = all,
                                   .option = option,
                                   .config = config,
                                   .backlog = clamp_backlog(backlog),
                                   .unix_mode = unix_mode};
    *all = (struct listeners){0};
    for (size_t i = 0; i < binds->count; i++) {
        begin(&context, binds->items[i]);
        if (take_inherited(&context))
            continue;
        if (strncmp(context.address, "unix:", 5) == 0)
            open_unix(&context, context.address + 5);
        else if (strncmp(context.address, "fd://", 5) == 0)
            open_fd(&context, context.address + 5);
        else
            open_tcp(&context);
    }
}

void listen_check(const char *option, const struct config_list *binds)
{
    struct listeners none = {0};
    struct open_context context = {.all = &none, .option = option};
    const char *port;
    for (size_t i = 0; i < binds->count; i++) {
        begin(&context, binds->items[i]);
        if (strncmp(context.address, "unix:", 5) == 0)
            check_path(&context, context.address + 5);
        else if (strncmp(context.address, "fd://", 5) == 0)
            (void)parse_fd(&context, context.address + 5);
        else
            free(split_host(&context, &port));
    }
}

/* Only if the file is still the one that this server made: another server may have replaced it. */
static void remove_path(const struct listener *l)
{
    struct stat file;
    if (lstat(l->unlink_path, &file) == 0 && file.st_dev == l->path_device &&
        file.st_ino == l->path_inode && unlink(l->unlink_path) != 0)
        log_warning("cannot remove unix:%s: %s", l->unlink_path, strerror(errno));
}

/* Drops every segment with SYN on a TCP socket (byte 13 of the segment has the flags). The client
 * repeats it after a second, and is refused if the socket is closed by then. Closing at once would
 * reset clients that have got the SYN+ACK but are not in the queue yet: with TCP_DEFER_ACCEPT, all
 * that have not sent their request. So that is switched off too, and the next segment puts such a
 * client into the queue: its request, or its answer to the SYN+ACK, which the kernel repeats after
 * a second. */
static void ignore_syn(int fd)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x02, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
        log_debug("new connections cannot be held off: %s", strerror(errno));
    int defer_s = 0;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer_s, sizeof defer_s);
}

void listen_begin_close(const struct listeners *all)
{
    for (size_t i = 0; i < all->count; i++)
        if (!all->items[i].shared && all->items[i].family != AF_UNIX)
            ignore_syn(all->items[i].fd);
}

void listen_close(struct listeners *all, bool unlink_paths)
{
    for (size_t i = 0; i < all->count; i++) {
        struct listener *l = &all->items[i];
        if (unlink_paths && l->unlink_path && !l->shared)
            remove_path(l);
        close(l->fd);
        free(l->bind);
        free(l->name);
        free(l->unlink_path);
    }
    free(all->items);
    *all = (struct listeners){0};
}
