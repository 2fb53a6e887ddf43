/* ceiling.c: what the server could reach if Python took no time: its own parser, response and
 * system calls on its own loop library, answering every request with one text.
 *
 * Owns: forked processes on one shared listening socket, a connection each way as in the server:
 * accept4, then read; one send for the answer; back to the loop. Never looks at what is asked.
 * Ends with SIGTERM. */
#include "http/parse.h"
#include "http/response.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char body[] = "Hello, world!\n";
static const struct http_limits limits = {
    .request_line_bytes = 8190,
    .field_bytes = 8190,
    .head_bytes = 65536,
    .fields = 100,
    .body_bytes = 1 << 30,
    .body_memory_bytes = 512 * 1024,
    .tmp_dir = "/tmp",
};

struct client {
    ev_io reader;
    struct request request;
    struct parser *parser;
    struct response response;
};

static void drop(struct ev_loop *loop, struct client *c)
{
    ev_io_stop(loop, &c->reader);
    close(c->reader.fd);
    parser_free(c->parser);
    response_fini(&c->response);
    free(c);
}

/* Returns whether the connection goes on. */
static bool answer(struct client *c)
{
    struct response *r = &c->response;
    struct response_facts facts = {.version_minor = c->request.version_minor,
                                   .keep_alive = c->request.keep_alive,
                                   .known_bytes = sizeof(body) - 1};
    response_reset(r);
    enum response_check status = response_status(r, "200 OK", 6);
    enum response_check type = response_header(r, "Content-Type", 12, "text/plain", 10);
    assert(status == RESPONSE_OK && type == RESPONSE_OK);
    response_finish_head(r, &facts);
    buf_append(&r->head, body, response_admit(r, sizeof(body) - 1));
    struct iovec piece = {r->head.data, r->head.len};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    ssize_t sent = sendmsg(c->reader.fd, &message, MSG_NOSIGNAL);
    parser_reset(c->parser);
    return sent == (ssize_t)r->head.len && r->keep_alive;
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct client *c = watcher->data;
    size_t room;
    (void)events;
    char *into = parser_room(c->parser, &room);
    ssize_t received = recv(watcher->fd, into, room, 0);
    if (received < 0 && errno == EAGAIN)
        return;
    if (received <= 0) {
        drop(loop, c);
        return;
    }
    enum http_result result = parser_feed(c->parser, (size_t)received);
    while (result == HTTP_READY) {
        if (!answer(c)) {
            drop(loop, c);
            return;
        }
        result = c->request.in.len > 0 ? parser_feed(c->parser, 0) : HTTP_MORE;
    }
    if (result == HTTP_REFUSED)
        drop(loop, c);
}

static void on_acceptable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    int on = 1;
    int fd = accept4(watcher->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (peer.ss_family == AF_INET)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    struct client *c = xcalloc(1, sizeof(*c));
    c->parser = parser_new(&c->request, &limits);
    ev_io_init(&c->reader, on_readable, fd, EV_READ);
    c->reader.data = c;
    ev_io_start(loop, &c->reader);
    on_readable(loop, &c->reader, events);
}

static int open_listener(const char *where)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    bool is_unix = where[0] == '/';
    int on = 1;
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    in.sin_port = htons((uint16_t)atoi(where));
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", where);
    if (!is_unix)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, is_unix ? (struct sockaddr *)&un : (struct sockaddr *)&in,
             is_unix ? sizeof(un) : sizeof(in)) < 0 ||
        listen(fd, 2048) < 0) {
        perror("ceiling");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: ceiling PORT|/SOCKET PROCESSES\n");
        return 2;
    }
    int listener = open_listener(argv[1]);
    for (int i = 1; i < atoi(argv[2]); i++) {
        pid_t parent = getpid();
        if (fork() > 0)
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            return 1;
        break;
    }
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOSIGMASK);
    ev_io acceptor;
    ev_io_init(&acceptor, on_acceptable, listener, EV_READ);
    ev_io_start(loop, &acceptor);
    ev_run(loop, 0);
}
