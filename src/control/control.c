/* control.c: the process that answers questions about the server.
 *
 * Owns its connections: one poll loop, a bounded number of clients, a deadline for each. When all
 * places are taken, a new client gets the place of the one that has been silent for longest. On the
 * sockets of `control` it speaks HTTP with parse.c and response.c, one request per connection; on
 * those of `stats` it writes one JSON document to each client that connects. It pushes to statsd.
 * The board is read when a client asks, and the memory of workers at most every USAGE_AGE_MS,
 * because the kernel walks page tables for it.
 *
 * Never touches Python, never waits for a worker or the master; writes on the board only that
 * somebody wants a profile (profile.c) or a trace of memory (growth.c),
 * and which parts of the observation are on (observe.c). */
#include "control/control.h"

#include "advice.h"
#include "base/log.h"
#include "config/origin.h"
#include "config/settings.h"
#include "growth.h"
#include "http/parse.h"
#include "http/response.h"
#include "observe.h"
#include "openmetrics.h"
#include "page.h"
#include "profile.h"
#include "queries.h"
#include "shared/board.h"
#include "stats.h"
#include "statsd.h"
#include "system/backlog.h"
#include "system/process.h"
#include "system/usage.h"
#include "views.h"
#include "window.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX    64
#define CLIENT_MS      5000 /* for a whole conversation */
#define LINGER_MS      1000 /* for the client to close, after the answer is with the kernel */
#define PAUSE_MS       100  /* when no descriptor is left */
#define USAGE_AGE_MS   3000
#define SOCKET_BACKLOG 256
#define SOCKET_MODE    0600

enum client_state { CLIENT_FREE, CLIENT_READING, CLIENT_WRITING, CLIENT_LINGERING };

struct client {
    enum client_state state;
    int fd;
    bool may_order; /* it may have the workers do something that slows them down */
    uint64_t deadline_ms;
    uint64_t moved; /* value of control.moves when bytes last went in or out */
    struct request request;
    struct parser *parser; /* owned; fills `request` */
    struct buf out;
    size_t sent;
};

static struct {
    const struct control_seed *seed;
    const char **names; /* names of the application's listeners; [count], owned with their texts */
    struct backlog *backlog; /* [count] */
    size_t count;
    struct usage *usage; /* [board->workers] */
    pid_t *usage_pids;   /* [board->workers]; whose memory it was; 0: nobody's */
    uint64_t usage_ms;   /* when it was read */
    struct http_limits limits;
    struct statsd statsd; /* if the setting is there */
    uint64_t push_ms;     /* when to push again; UINT64_MAX: never */
    uint64_t moves;       /* how often bytes went in or out, for all clients */
    sigset_t waiting;     /* the signal mask during ppoll */
    struct client clients[CLIENTS_MAX];
} control;

/* ---- opening ---- */

static bool is_loopback(const struct listener *l)
{
    return l->family == AF_UNIX || strncmp(l->server_name, "127.", 4) == 0 ||
           strcmp(l->server_name, "::1") == 0;
}

/* A path alone, without "unix:", is a unix socket too, as in uWSGI. */
static char *normalize(const char *address)
{
    return xasprintf("%s%s", address[0] == '/' ? "unix:" : "", address);
}

static void open_one(struct listeners *all, const char *option, const char *address,
                     const struct config *config)
{
    if (!address)
        return;
    char *bind = normalize(address);
    listen_open(all, option, &(struct config_list){.items = &bind, .count = 1}, config,
                SOCKET_BACKLOG, SOCKET_MODE);
    free(bind);
    for (size_t i = 0; i < all->count; i++) {
        const struct listener *l = &all->items[i];
        log_info("%s on %s", option, l->name);
        if (!is_loopback(l))
            log_warning("%s on %s: whoever can connect sees paths and clients of requests", option,
                        l->name);
    }
}

void control_open(struct control_sockets *sockets, const struct config *config)
{
    open_one(&sockets->http, "control", config->control, config);
    open_one(&sockets->stats, "stats", config->stats, config);
    sockets->pushes = config->statsd != NULL;
}

static void check_one(const char *option, const char *address)
{
    if (!address)
        return;
    char *bind = normalize(address);
    listen_check(option, &(struct config_list){.items = &bind, .count = 1});
    free(bind);
}

void control_check(const struct config *config)
{
    check_one("control", config->control);
    check_one("stats", config->stats);
    char *wrong = config->statsd ? statsd_check(config->statsd) : NULL;
    if (wrong)
        config_origin_die(EXIT_CONFIG, "statsd", NULL, "%s", wrong);
}

/* ---- what is known ---- */

static void refresh_usage(void)
{
    const struct board *board = control.seed->board;
    uint64_t now = now_ms();
    bool is_old = now - control.usage_ms >= USAGE_AGE_MS;
    if (is_old)
        control.usage_ms = now;
    for (unsigned i = 0; i < board->workers; i++) {
        pid_t pid = atomic_load(&board->worker[i].pid);
        if (atomic_load(&board->worker[i].state) == BOARD_WORKER_EMPTY || pid < 0)
            pid = 0;
        if (is_old || pid != control.usage_pids[i])
            control.usage[i] = pid ? usage_read(pid) : (struct usage){0};
        control.usage_pids[i] = pid;
    }
}

static void write_document(void (*write)(const struct stats_facts *facts, struct buf *out),
                           struct buf *out)
{
    char directory[PATH_MAX];
    refresh_usage();
    backlog_read(control.backlog, control.count);
    struct stats_facts facts = {
        .config = control.seed->config,
        .board = control.seed->board,
        .listeners = control.names,
        .backlog = control.backlog,
        .listener_count = control.count,
        .usage = control.usage,
        .directory = getcwd(directory, sizeof directory) ? directory : "",
        .user = getuid(),
        .group = getgid(),
        .now_ns = now_ns(),
        .now_s = time(NULL),
    };
    write(&facts, out);
}

/* Pushes to statsd when it is time. Returns the milliseconds to the next time; -1: never. */
static int push(void)
{
    uint64_t now = now_ms();
    struct buf metrics = {0}, lines = {0};
    if (control.push_ms == UINT64_MAX)
        return -1;
    if (now < control.push_ms)
        return (int)(control.push_ms - now);
    write_document(stats_metrics, &metrics);
    buf_append(&metrics, "", 1);
    statsd_format(&control.statsd, metrics.data, &lines);
    statsd_send(&control.statsd, &lines);
    buf_fini(&metrics);
    buf_fini(&lines);
    control.push_ms = now + STATSD_EVERY_MS;
    return STATSD_EVERY_MS;
}

/* ---- answers ---- */

static void write_health(bool live, struct buf *body, unsigned *status)
{
    const struct board *board = control.seed->board;
    /* `upgraded` is read after `stopping` (in stats_is_ready), and the master sets it before: a
     * stop that follows an upgrade is answered as ready. */
    if (live || stats_is_ready(board) || atomic_load(&board->upgraded)) {
        buf_append_str(body, live ? "alive\n" : "ready\n");
        return;
    }
    *status = 503;
    buf_append_str(body, stats_is_stopping(board) ? "stopping\n" : "no worker serves\n");
}

static bool is_path(const struct request *request, const char *path)
{
    return request->path.length == strlen(path) &&
           memcmp(request_at(request, request->path), path, request->path.length) == 0;
}

static bool is_method(const struct request *request, const char *method)
{
    return request->method.length == strlen(method) &&
           memcmp(request_at(request, request->method), method, request->method.length) == 0;
}

/* A document, by its path. */
struct section {
    const char *path, *type;
    void (*write)(const struct stats_facts *facts, struct buf *out);
};

static void write_metrics(const struct stats_facts *facts, struct buf *out)
{
    stats_metrics(facts, out);
    views_metrics(facts, out);
}

static void write_openmetrics(const struct stats_facts *facts, struct buf *out)
{
    struct stats_facts more = *facts;
    struct buf plain = {0};
    more.has_exemplars = true;
    write_metrics(&more, &plain);
    openmetrics_append(out, &plain);
    buf_fini(&plain);
}

static const struct section openmetrics = {"/metrics", OPENMETRICS_TYPE, write_openmetrics};
#define JSON "application/json"
static const struct section sections[] = {
    {"/", "text/html; charset=utf-8", page_html},
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", write_metrics},
    {"/stats", JSON, stats_json},
    {"/views", JSON, views_json},
    {"/requests", JSON, views_requests},
    {"/queries", JSON, queries_json},
    {"/advice", JSON, advice_json},
    {"/application", JSON, queries_application},
};

static const struct section *find_section(const struct request *request)
{
    if (is_path(request, openmetrics.path) && openmetrics_is_wanted(request))
        return &openmetrics;
    for (size_t i = 0; i < ARRAY_LEN(sections); i++)
        if (is_path(request, sections[i].path))
            return &sections[i];
    return NULL;
}

static void list_sections(struct buf *out)
{
    buf_append_str(
        out, "There are /livez, /readyz, /profile, /samples, /crashes, /crash, /memory, /observe");
    for (size_t i = 0; i < ARRAY_LEN(sections); i++)
        buf_printf(out, "%s%s", i + 1 < ARRAY_LEN(sections) ? ", " : " and ", sections[i].path);
    buf_append_str(out, ".\n");
}

/* What is no plain document: it has a query, or is asked for by POST. False: it is one. */
static bool write_answer(const struct client *client, bool is_post, struct buf *body,
                         unsigned *status)
{
    const struct board *board = control.seed->board;
    const struct request *request = &client->request;
    if (profile_answer(board, request, body, status))
        return true;
    bool is_growth = growth_is_asked(request), is_order = is_growth || observe_is_asked(request);
    if (is_order && is_post && !client->may_order) {
        buf_append_str(body, "Only who comes by a unix socket may do that: control = /PATH.\n");
        *status = 403;
    } else if (is_order) {
        *status = is_growth ? growth_answer(board, request, is_post, body)
                            : observe_answer(board, request, is_post, body);
    }
    return is_order;
}

/* Writes the body and returns its Content-Type. */
static const char *write_body(const struct client *client, struct buf *body, unsigned *status)
{
    const struct request *request = &client->request;
    const char *type = "text/plain; charset=utf-8";
    bool is_post = is_method(request, "POST");
    bool may_read = request->is_head || is_method(request, "GET");
    if ((is_post || may_read) && write_answer(client, is_post, body, status))
        return *status == 200 ? "application/json" : type;
    const struct section *section = find_section(request);
    *status = 200;
    if (!may_read) {
        *status = 405;
        buf_append_str(
            body, "Only GET and HEAD are answered, and POST of /profile, /memory and /observe.\n");
    } else if (is_path(request, "/livez") || is_path(request, "/readyz")) {
        write_health(is_path(request, "/livez"), body, status);
    } else if (section) {
        type = section->type;
        write_document(section->write, body);
    } else {
        *status = 404;
        list_sections(body);
    }
    return type;
}

static void add_header(struct response *response, const char *name, const char *value)
{
    enum response_check check = response_header(response, name, strlen(name), value, strlen(value));
    assert(check == RESPONSE_OK);
}

static void append_answer(struct client *client, struct response *response)
{
    const struct request *request = &client->request;
    struct buf body = {0};
    char line[64];
    unsigned status;
    const char *type = write_body(client, &body, &status);
    int len = snprintf(line, sizeof line, "%u %s", status, response_reason(status));
    enum response_check check = response_status(response, line, (size_t)len);
    assert(check == RESPONSE_OK);
    add_header(response, "Content-Type", type);
    add_header(response, "Cache-Control", "no-store");
    if (status == 405) /* required by RFC 9110 15.5.6 */
        add_header(response, "Allow", "GET, HEAD");
    struct response_facts facts = {.is_head = request->is_head,
                                   .version_minor = request->version_minor,
                                   .known_bytes = (int64_t)body.len};
    response_finish_head(response, &facts);
    buf_append(&client->out, response->head.data, response->head.len);
    buf_append(&client->out, body.data, response_admit(response, body.len));
    buf_fini(&body);
}

static void append_error(struct client *client, struct response *response, unsigned status)
{
    struct response_facts facts = {.is_head = client->request.is_head,
                                   .version_minor = client->request.version_minor};
    response_error(response, status, &facts);
    buf_append(&client->out, response->head.data, response->head.len);
}

static void answer(struct client *client, unsigned refusal_status)
{
    struct response response = {0};
    if (refusal_status)
        append_error(client, &response, refusal_status);
    else
        append_answer(client, &response);
    response_fini(&response);
    client->state = CLIENT_WRITING;
}

/* ---- clients ---- */

static void close_client(struct client *client)
{
    close(client->fd);
    parser_free(client->parser);
    buf_fini(&client->out);
    *client = (struct client){.state = CLIENT_FREE};
}

static void write_more(struct client *client)
{
    while (client->sent < client->out.len) {
        ssize_t got = send(client->fd, client->out.data + client->sent,
                           client->out.len - client->sent, MSG_NOSIGNAL);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0) {
            close_client(client);
            return;
        }
        client->sent += (size_t)got;
        client->moved = ++control.moves;
    }
    /* Closing with unread bytes would reset the connection, and the client could lose the
     * answer. */
    shutdown(client->fd, SHUT_WR);
    client->state = CLIENT_LINGERING;
    client->deadline_ms = now_ms() + LINGER_MS;
}

static void read_more(struct client *client)
{
    size_t room;
    char *at = parser_room(client->parser, &room);
    ssize_t got = read(client->fd, at, room);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        close_client(client);
        return;
    }
    client->moved = ++control.moves;
    switch (parser_feed(client->parser, (size_t)got)) {
    case HTTP_MORE:
        return;
    case HTTP_READY:
        answer(client, 0);
        break;
    case HTTP_REFUSED:
        answer(client, client->request.refusal_status);
        break;
    }
    write_more(client);
}

static void discard(struct client *client)
{
    char bytes[4096];
    ssize_t got = read(client->fd, bytes, sizeof bytes);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        close_client(client);
}

static void serve_client(struct client *client)
{
    switch (client->state) {
    case CLIENT_FREE:
        break;
    case CLIENT_READING:
        read_more(client);
        break;
    case CLIENT_WRITING:
        write_more(client);
        break;
    case CLIENT_LINGERING:
        discard(client);
        break;
    }
}

/* Returns a free place, or closes the client that has been silent for longest: silent clients must
 * not keep out one that asks whether the server is alive. */
static struct client *make_room(void)
{
    struct client *silent = &control.clients[0];
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        struct client *client = &control.clients[i];
        if (client->state == CLIENT_FREE)
            return client;
        if (client->moved < silent->moved)
            silent = client;
    }
    close_client(silent);
    return silent;
}

static bool is_alone(void)
{
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        if (control.clients[i].state != CLIENT_FREE)
            return false;
    return true;
}

/* On a unix socket only root and the server's own user may ask: its mode may have been changed
 * since, or its directory be shared. */
static bool may_ask(const struct listener *listener, int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (listener->family != AF_UNIX)
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        return false;
    if (peer.uid == 0 || peer.uid == geteuid())
        return true;
    log_client(LOG_INFO, "%s: user %u may not ask", listener->name, (unsigned)peer.uid);
    return false;
}

static void accept_client(const struct listener *listener, bool speaks_http)
{
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
        /* the client stays in the queue: a pause, so that the loop does not spin */
        (void)poll(NULL, 0, PAUSE_MS);
    if (fd < 0)
        return;
    if (!may_ask(listener, fd)) {
        close(fd);
        return;
    }
    struct client *client = make_room();
    client->fd = fd;
    client->may_order = listener->family == AF_UNIX; /* else anybody on this machine might */
    client->moved = ++control.moves;
    client->deadline_ms = now_ms() + CLIENT_MS;
    client->state = CLIENT_READING;
    client->parser = parser_new(&client->request, &control.limits);
    if (speaks_http)
        return; /* its request is read in the next round of the loop */
    write_document(stats_uwsgi, &client->out);
    client->state = CLIENT_WRITING;
    write_more(client);
}

/* ---- the loop ---- */

static void watch_listeners(struct pollfd *fds, const struct listeners *listeners, bool leaving)
{
    for (size_t i = 0; i < listeners->count; i++)
        fds[i] = (struct pollfd){.fd = leaving ? -1 : listeners->items[i].fd, .events = POLLIN};
}

static void accept_clients(const struct pollfd *fds, const struct listeners *listeners,
                           bool speaks_http)
{
    for (size_t i = 0; i < listeners->count; i++)
        if (fds[i].revents)
            accept_client(&listeners->items[i], speaks_http);
}

/* Closes clients past their deadline and returns the milliseconds to the next deadline; -1:
 * none. */
static int watch_clients(struct pollfd *fds)
{
    uint64_t now = now_ms(), next = UINT64_MAX;
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        struct client *client = &control.clients[i];
        if (client->state != CLIENT_FREE && client->deadline_ms <= now)
            close_client(client);
        bool is_open = client->state != CLIENT_FREE;
        fds[i] = (struct pollfd){.fd = is_open ? client->fd : -1,
                                 .events = client->state == CLIENT_WRITING ? POLLOUT : POLLIN};
        if (is_open && client->deadline_ms < next)
            next = client->deadline_ms;
    }
    return next == UINT64_MAX ? -1 : (int)(next - now);
}

/* ppoll(2), which CONTROL_WAKE_SIGNAL interrupts; the signal is blocked at all other times. */
static int wait_for_events(struct pollfd *fds, size_t count, int wait_ms)
{
    struct timespec t = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000L};
    return ppoll(fds, count, wait_ms < 0 ? NULL : &t, &control.waiting);
}

/* Of two times to wait; -1: for ever. */
static int sooner(int a, int b)
{
    return b < 0 || (a >= 0 && a < b) ? a : b;
}

static void serve(void)
{
    const struct control_sockets *sockets = control.seed->sockets;
    size_t http = 1, stats = http + sockets->http.count, clients = stats + sockets->stats.count;
    struct pollfd *fds = xcalloc(clients + CLIENTS_MAX, sizeof *fds);
    for (;;) {
        bool leaving = atomic_load(&control.seed->board->upgraded);
        int wait_ms = watch_clients(fds + clients);
        if (leaving && is_alone())
            _exit(EXIT_OK);
        if (!leaving) /* then the next master's does */
            wait_ms = sooner(wait_ms, sooner(push(), window_keep(control.seed->board)));
        fds[0] = (struct pollfd){.fd = leaving ? -1 : control.seed->lifeline_fd, .events = POLLIN};
        watch_listeners(fds + http, &sockets->http, leaving);
        watch_listeners(fds + stats, &sockets->stats, leaving);
        if (wait_for_events(fds, clients + CLIENTS_MAX, wait_ms) < 0)
            continue;
        if (fds[0].revents && !atomic_load(&control.seed->board->upgraded))
            _exit(EXIT_OK); /* the master is gone */
        for (unsigned i = 0; i < CLIENTS_MAX; i++)
            if (fds[clients + i].revents)
                serve_client(&control.clients[i]);
        accept_clients(fds + http, &sockets->http, true);
        accept_clients(fds + stats, &sockets->stats, false);
    }
}

/* ---- beginning ---- */

/* Notes which sockets the application listens on, then closes them, so that only processes that
 * accept from them keep them open. */
static void note_listeners(struct listeners *listeners)
{
    control.count = listeners->count;
    control.names = xcalloc(control.count, sizeof *control.names);
    control.backlog = xcalloc(control.count, sizeof *control.backlog);
    for (size_t i = 0; i < control.count; i++)
        control.names[i] = xstrdup(listeners->items[i].name);
    backlog_init(control.backlog, listeners);
    listen_close(listeners, false);
}

static void on_wake(int number)
{
    (void)number;
}

/* A signal to the whole group ends the master, and the end of the master ends this process, last of
 * all. */
static void ignore_signals(void)
{
    static const int ignored[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGPIPE};
    signal(CONTROL_WAKE_SIGNAL, on_wake); /* first: the signal may be pending already */
    process_restore_signals();
    for (unsigned i = 0; i < ARRAY_LEN(ignored); i++)
        signal(ignored[i], SIG_IGN);
    sigset_t wake;
    sigemptyset(&wake);
    sigaddset(&wake, CONTROL_WAKE_SIGNAL);
    sigprocmask(SIG_BLOCK, &wake, &control.waiting);
    sigdelset(&control.waiting, CONTROL_WAKE_SIGNAL);
}

void control_main(const struct control_seed *seed)
{
    control.seed = seed;
    log_set_process("control");
    process_set_title("myserver: control [%s]", seed->config->app);
    ignore_signals();
    note_listeners(seed->listeners);
    control.usage = xcalloc(seed->board->workers, sizeof *control.usage);
    control.usage_pids = xcalloc(seed->board->workers, sizeof *control.usage_pids);
    control.push_ms = seed->config->statsd ? 0 : UINT64_MAX;
    if (seed->config->statsd)
        statsd_begin(&control.statsd, seed->config->statsd, seed->config->statsd_prefix);
    control.limits = (struct http_limits){
        .request_line_bytes = 8190,
        .field_bytes = 8190,
        .head_bytes = 32768,
        .fields = 100,
        .body_bytes = 65536,
        .body_memory_bytes = 65536,
    };
    serve();
    _exit(EXIT_OK);
}
