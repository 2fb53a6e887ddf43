/* load.c: a load generator for what wrk cannot do: unix sockets, a mix of addresses with their
 * own percentiles, uploads, think time, a fixed rate of arrivals.
 *
 * Owns: the connections, one epoll loop on one thread, the clock. A latency begins when the
 * request was due (with -r) or decided (without), before connecting, and ends with the last byte
 * of the response; what a stalled server delays is therefore in it. Latencies are those of requests
 * that end within the time that counts. With -p the rate counts each request by the part of it that
 * lies within: requests of seconds, in step or not, then give the same rate wherever the time
 * begins; clients go on until all that was under way at its end is answered. Of each request that
 * counts it also notes how many answers came between its sending and its own, this included: with
 * one queue for all and no think time that is the number of the connections. Never pipelines, never
 * counts a response that is not 2xx or 3xx, talks to 127.0.0.1, ::1 and unix sockets only. Output:
 * JSON. */
#include "histogram.h"
#include "reply.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S    1000000000ull
#define NS_PER_MS   1000000ull
#define SPECS_MAX   16
#define WHEEL_SLOTS 8192 /* of a millisecond: the longest wait */
#define RETRY_MS    10
#define SEED_STEP   0x9e3779b97f4a7c15ull

enum failure { FAIL_CONNECT, FAIL_CLOSED, FAIL_STATUS, FAIL_TIMEOUT, FAIL_BAD, FAIL_COUNT };
static const char *const failure_names[] = {"connect", "closed", "status", "timeout", "bad"};

struct spec {
    const char *path;
    unsigned weight;
    size_t body_bytes; /* > 0: a POST */
    struct head {
        char text[1024];
        size_t len;
    } heads[2]; /* on a kept connection; on a new one for each request */
    uint64_t errors[FAIL_COUNT];
    uint64_t body_received;
    struct histogram latency;
};

enum state { IDLE, WAITING, CONNECTING, SENDING, RECEIVING };

struct conn {
    int fd; /* -1: not connected */
    enum state state;
    struct spec *spec;
    uint64_t begun_ns; /* of the request */
    uint64_t answers_before; /* what load.answers was then */
    size_t sent;
    bool is_new;           /* a new connection for each request */
    bool reused, answered; /* the connection served before; a byte of this answer has come */
    bool served;           /* a whole answer has come, on this or an earlier connection */
    struct conn *next;     /* in a slot of the wheel, or among the idle */
    struct reply reply;
};

static struct {
    struct sockaddr_storage address;
    socklen_t address_len;
    struct spec specs[SPECS_MAX];
    unsigned spec_count, weights;
    unsigned connections, new_connections;
    double seconds, warmup_s, rate, think_ms, timeout_s;
    bool parts;

    int epoll_fd;
    struct conn *conns, *idle;
    struct conn *wheel[WHEEL_SLOTS];
    uint64_t tick_ms, begin_ns, end_ns; /* the time that counts */
    uint64_t now_ns, due_ns;            /* of the next arrival, with -r */
    uint64_t *backlog;                  /* ring of arrivals that found no idle connection */
    size_t backlog_first, backlog_len;
    uint64_t retries, connects, late;
    uint64_t answers;
    struct histogram passed[2]; /* answers from a request's sending to its own; kept, new */
    double work; /* requests within the time that counts, with the parts of those at its ends */
    uint64_t random;
} load = {.connections = 1,
          .seconds = 1,
          .timeout_s = 10,
          .random = 88172645463325252ull};

#define BACKLOG_MAX (1u << 16)
static char pattern[256 * 1024];
static char input[256 * 1024];

static void next_request(struct conn *c);
static void step(struct conn *c);

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* The same numbers in every run with a seed: all servers of a round get the same sequence. */
static double random_fraction(void)
{
    load.random ^= load.random << 13;
    load.random ^= load.random >> 7;
    load.random ^= load.random << 17;
    return (double)(load.random >> 11) / (double)(1ull << 53);
}

static struct spec *choose_spec(void)
{
    struct spec *spec = load.specs;
    if (load.spec_count == 1)
        return spec; /* so that the times of arrivals do not depend on the answers */
    unsigned at = (unsigned)(random_fraction() * load.weights);
    while (at >= spec->weight)
        at -= spec++->weight;
    return spec;
}

static bool counts(void)
{
    return load.now_ns >= load.begin_ns && load.now_ns < load.end_ns;
}

/* ---- connections ---- */

static void disconnect(struct conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static void wait_ms(struct conn *c, uint64_t ms)
{
    uint64_t slot = (load.now_ns / NS_PER_MS + 1 + ms) % WHEEL_SLOTS;
    c->state = WAITING;
    c->next = load.wheel[slot];
    load.wheel[slot] = c;
}

static void finish(struct conn *c)
{
    if (c->is_new || c->reply.close)
        disconnect(c);
    c->reused = c->served = true;
    c->state = IDLE;
    if (load.think_ms > 0)
        wait_ms(c, (uint64_t)(2 * load.think_ms * random_fraction()));
    else
        next_request(c);
}

static void fail(struct conn *c, enum failure failure)
{
    if (counts())
        c->spec->errors[failure]++;
    disconnect(c);
    c->spec = NULL;
    wait_ms(c, RETRY_MS); /* a server that refuses must not be met by a busy loop */
}

static double part_within(uint64_t begun_ns, uint64_t ended_ns)
{
    uint64_t from_ns = begun_ns > load.begin_ns ? begun_ns : load.begin_ns;
    uint64_t to_ns = ended_ns < load.end_ns ? ended_ns : load.end_ns;
    if (from_ns >= to_ns)
        return 0;
    return (double)(to_ns - from_ns) / (double)(ended_ns - begun_ns);
}

static void succeed(struct conn *c)
{
    if (c->reply.status < 200 || c->reply.status >= 400) {
        fail(c, FAIL_STATUS);
        return;
    }
    load.work += part_within(c->begun_ns, load.now_ns);
    load.answers++;
    if (counts()) {
        histogram_add(&load.passed[c->is_new], load.answers - c->answers_before);
        histogram_add(&c->spec->latency, (load.now_ns - c->begun_ns) / 1000);
        c->spec->body_received += c->reply.body_bytes;
    }
    finish(c);
}

/* RFC 9112 9.3.1: a server may close an idle connection just as a request is on its way; that is
 * no fault of anybody, and the request is sent again. */
static void lost(struct conn *c)
{
    if (c->reused && !c->answered) {
        load.retries++;
        disconnect(c);
        c->reused = false;
        step(c);
    } else if (reply_ends_with_eof(&c->reply)) {
        succeed(c);
    } else {
        fail(c, FAIL_CLOSED);
    }
}

static void open_connection(struct conn *c)
{
    int on = 1;
    c->fd = socket(load.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        perror("load: socket");
        exit(1);
    }
    if (load.address.ss_family != AF_UNIX)
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    load.connects++;
    c->state = CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&load.address, load.address_len) == 0) {
        c->state = SENDING;
    } else if (errno == EAGAIN) { /* a unix socket's queue is full: the request waits */
        disconnect(c);
        wait_ms(c, 1);
        return;
    } else if (errno != EINPROGRESS) {
        fail(c, FAIL_CONNECT);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    epoll_ctl(load.epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
}

static void send_request(struct conn *c)
{
    const struct head *head = &c->spec->heads[c->is_new];
    size_t total = head->len + c->spec->body_bytes;
    while (c->sent < total) {
        size_t in_body = c->sent - head->len;
        bool in_head = c->sent < head->len;
        const char *from = in_head ? head->text + c->sent : pattern;
        size_t left = in_head ? head->len - c->sent : c->spec->body_bytes - in_body;
        size_t piece = left < sizeof(pattern) ? left : sizeof(pattern);
        bool more = c->sent + piece < total;
        ssize_t n = send(c->fd, from, piece, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN))
            return;
        if (n < 0) {
            lost(c);
            return;
        }
        c->sent += (size_t)n;
    }
    c->state = RECEIVING;
}

static void receive(struct conn *c)
{
    for (;;) {
        ssize_t n = recv(c->fd, input, sizeof(input), 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            lost(c);
            return;
        }
        c->answered = true;
        switch (reply_feed(&c->reply, input, (size_t)n)) {
        case REPLY_MORE:
            break;
        case REPLY_WHOLE:
            load.now_ns = clock_ns();
            succeed(c);
            return;
        case REPLY_BAD:
            fail(c, FAIL_BAD);
            return;
        }
        if ((size_t)n < sizeof(input))
            return; /* the edge comes again with the next bytes */
    }
}

/* Sends what there is to send of the current request, on a new connection if it has none. */
static void step(struct conn *c)
{
    c->sent = 0;
    c->answered = false;
    reply_reset(&c->reply);
    c->state = SENDING;
    if (c->fd < 0) {
        c->reused = false;
        open_connection(c);
    }
    if (c->fd >= 0 && c->state == SENDING)
        send_request(c);
}

static void start_request(struct conn *c, uint64_t due_ns)
{
    c->spec = choose_spec();
    c->begun_ns = due_ns;
    c->answers_before = load.answers;
    step(c);
}

static void next_request(struct conn *c)
{
    if (load.rate == 0) {
        start_request(c, load.now_ns);
    } else if (load.backlog_len > 0) {
        uint64_t due_ns = load.backlog[load.backlog_first];
        load.backlog_first = (load.backlog_first + 1) % BACKLOG_MAX;
        load.backlog_len--;
        start_request(c, due_ns);
    } else {
        c->state = IDLE; /* the last used is the next used, as in nginx */
        c->next = load.idle;
        load.idle = c;
    }
}

static void on_event(struct conn *c, uint32_t events)
{
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t len = sizeof(error);
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error) {
            fail(c, FAIL_CONNECT);
            return;
        }
        c->state = SENDING;
    }
    if (c->state == SENDING && (events & EPOLLOUT))
        send_request(c);
    if ((c->state == RECEIVING || c->state == SENDING) && c->fd >= 0 &&
        (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        receive(c);
    else if ((c->state == IDLE || c->state == WAITING) && (events & (EPOLLHUP | EPOLLIN)))
        disconnect(c); /* closed by the server while idle */
}

/* ---- time ---- */

static void turn_wheel(void)
{
    for (uint64_t now_ms = load.now_ns / NS_PER_MS; load.tick_ms < now_ms;) {
        struct conn **slot = &load.wheel[++load.tick_ms % WHEEL_SLOTS];
        struct conn *c = *slot;
        *slot = NULL;
        while (c) {
            struct conn *next = c->next;
            if (c->spec && c->fd < 0 && c->state == WAITING && c->sent == 0 && !c->reused)
                step(c); /* its connection is still to be made */
            else
                next_request(c);
            c = next;
        }
    }
}

static void arrive(void)
{
    while (load.rate > 0 && load.due_ns <= load.now_ns) {
        if (load.idle) {
            struct conn *c = load.idle;
            load.idle = c->next;
            start_request(c, load.due_ns);
        } else if (load.backlog_len < BACKLOG_MAX) {
            load.backlog[(load.backlog_first + load.backlog_len++) % BACKLOG_MAX] = load.due_ns;
        } else {
            load.late++;
        }
        load.due_ns += (uint64_t)(-log(1 - random_fraction()) / load.rate * (double)NS_PER_S);
    }
}

static void expire(void)
{
    uint64_t limit_ns = (uint64_t)(load.timeout_s * (double)NS_PER_S);
    for (unsigned i = 0; i < load.connections; i++) {
        struct conn *c = &load.conns[i];
        if (c->state >= CONNECTING && load.now_ns - c->begun_ns > limit_ns)
            fail(c, FAIL_TIMEOUT);
    }
}

/* With -p: whether a request that was under way at the end still is. */
static bool lags(void)
{
    for (unsigned i = 0; load.parts && i < load.connections; i++)
        if (load.conns[i].state >= CONNECTING && load.conns[i].begun_ns < load.end_ns)
            return true;
    return false;
}

static void run(void)
{
    struct epoll_event events[256];
    uint64_t expire_ns = load.now_ns;
    while (load.now_ns < load.end_ns || lags()) {
        uint64_t until = load.now_ns / NS_PER_MS * NS_PER_MS + NS_PER_MS;
        if (load.rate > 0 && load.due_ns < until)
            until = load.due_ns;
        uint64_t pause_ns = until > load.now_ns ? until - load.now_ns : 0;
        struct timespec pause = {.tv_nsec = (long)pause_ns};
        int count = epoll_pwait2(load.epoll_fd, events, 256, &pause, NULL);
        for (int i = 0; i < count; i++) {
            load.now_ns = clock_ns();
            on_event(events[i].data.ptr, events[i].events);
        }
        load.now_ns = clock_ns();
        turn_wheel();
        arrive();
        if (load.now_ns - expire_ns > NS_PER_S / 10) {
            expire_ns = load.now_ns;
            expire();
        }
    }
}

static void begin(void)
{
    load.now_ns = clock_ns();
    load.begin_ns = load.now_ns + (uint64_t)(load.warmup_s * (double)NS_PER_S);
    load.end_ns = load.begin_ns + (uint64_t)(load.seconds * (double)NS_PER_S);
    load.due_ns = load.now_ns;
    load.tick_ms = load.now_ns / NS_PER_MS;
    load.backlog = calloc(BACKLOG_MAX, sizeof(*load.backlog));
    load.conns = calloc(load.connections, sizeof(*load.conns));
    load.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < load.connections; i++) {
        struct conn *c = &load.conns[i];
        c->fd = -1;
        /* evenly among the others */
        c->is_new = (i + 1) * load.new_connections / load.connections >
                    i * load.new_connections / load.connections;
        /* Users do not come all at once, and have come when half of the warm-up is over. */
        uint64_t spread_ms = load.warmup_s > 8 ? 4000 : (uint64_t)(load.warmup_s * 500);
        if (spread_ms > 0 && load.rate == 0)
            wait_ms(c, i * spread_ms / load.connections);
        else
            next_request(c);
    }
}

/* ---- output ---- */

static void print_latency(const struct histogram *h)
{
    printf("\"count\": %lu, \"mean_us\": %lu, \"p50_us\": %lu, \"p90_us\": %lu, \"p99_us\": %lu, "
           "\"p999_us\": %lu, \"max_us\": %lu",
           h->count, h->count ? h->sum_us / h->count : 0, histogram_at(h, 0.5),
           histogram_at(h, 0.9), histogram_at(h, 0.99), histogram_at(h, 0.999), h->max_us);
}

/* As multiples of the number of connections. */
static void print_passed(void)
{
    static const char *const kinds[] = {"kept", "new"};
    double all = load.connections;
    printf("\"passed\": {");
    for (int i = 0; i < 2; i++) {
        const struct histogram *h = &load.passed[i];
        printf("%s\"%s\": {\"count\": %lu, \"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f}",
               i ? ", " : "", kinds[i], h->count, (double)histogram_at(h, 0.5) / all,
               (double)histogram_at(h, 0.99) / all, (double)h->max_us / all);
    }
    printf("}, ");
}

static void print_errors(const uint64_t errors[FAIL_COUNT])
{
    printf("\"errors\": {");
    for (int i = 0; i < FAIL_COUNT; i++)
        printf("%s\"%s\": %lu", i ? ", " : "", failure_names[i], errors[i]);
    printf("}");
}

static void print_unfinished(void)
{
    uint64_t oldest_ns = load.now_ns, count = load.backlog_len, starved = 0;
    for (unsigned i = 0; i < load.connections; i++) {
        const struct conn *c = &load.conns[i];
        if (c->state < CONNECTING)
            continue;
        count++;
        starved += !c->served;
        if (c->begun_ns < oldest_ns)
            oldest_ns = c->begun_ns;
    }
    printf("\"unfinished\": %lu, \"unfinished_oldest_us\": %lu, \"starved\": %lu, ", count,
           (load.now_ns - oldest_ns) / 1000, starved);
}

static void print_result(void)
{
    static struct histogram all;
    uint64_t errors[FAIL_COUNT] = {0}, received = 0;
    printf("{\"seconds\": %.3f, \"connects\": %lu, \"retries\": %lu, \"dropped\": %lu, ",
           load.seconds, load.connects, load.retries, load.late);
    if (load.parts)
        printf("\"rate\": %.3f, ", load.work / load.seconds);
    print_unfinished();
    print_passed();
    printf("\"urls\": {");
    for (unsigned i = 0; i < load.spec_count; i++) {
        struct spec *s = &load.specs[i];
        printf("%s\"%s\": {", i ? ", " : "", s->path);
        print_latency(&s->latency);
        printf(", ");
        print_errors(s->errors);
        printf("}");
        histogram_merge(&all, &s->latency);
        received += s->body_received;
        for (int f = 0; f < FAIL_COUNT; f++)
            errors[f] += s->errors[f];
    }
    printf("}, \"body_bytes\": %lu, ", received);
    print_latency(&all);
    printf(", ");
    print_errors(errors);
    printf("}\n");
}

/* ---- the command line ---- */

static void usage(void)
{
    fprintf(
        stderr,
        "usage: load [-c CONNECTIONS] [-d SECONDS] [-w WARMUP_S] [-r RATE_PER_S]\n"
        "            [-t MEAN_THINK_MS] [-T TIMEOUT_S] [-s SEED] [-n COUNT] [-1] [-p]\n"
        "            127.0.0.1:PORT|[::1]:PORT|unix:PATH [WEIGHT*]PATH[=UPLOAD_BYTES]...\n"
        "-n: so many connections are new for each request, -1: all; -p: parts of requests count; -s: other random numbers\n");
    exit(2);
}

static void parse_address(const char *text)
{
    struct sockaddr_in *in = (void *)&load.address;
    struct sockaddr_in6 *in6 = (void *)&load.address;
    struct sockaddr_un *un = (void *)&load.address;
    const char *colon = strrchr(text, ':');
    if (strncmp(text, "unix:", 5) == 0 && strlen(text + 5) < sizeof(un->sun_path)) {
        un->sun_family = AF_UNIX;
        strcpy(un->sun_path, text + 5);
        load.address_len = sizeof(*un);
    } else if (strncmp(text, "127.0.0.1:", 10) == 0) {
        *in =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        in->sin_port = htons((uint16_t)atoi(colon + 1));
        load.address_len = sizeof(*in);
    } else if (strncmp(text, "[::1]:", 6) == 0) {
        *in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        in6->sin6_port = htons((uint16_t)atoi(colon + 1));
        load.address_len = sizeof(*in6);
    } else {
        usage();
    }
}

static void write_head(const struct spec *spec, struct head *head, const char *more)
{
    char body[128] = "";
    if (spec->body_bytes)
        snprintf(body, sizeof(body),
                 "Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n",
                 spec->body_bytes);
    int len = snprintf(head->text, sizeof(head->text),
                       "%s %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n"
                       "%s%s\r\n",
                       spec->body_bytes ? "POST" : "GET", spec->path, body, more);
    if (len >= (int)sizeof(head->text))
        usage();
    head->len = (size_t)len;
}

static void parse_spec(char *text)
{
    if (load.spec_count == SPECS_MAX)
        usage();
    struct spec *spec = &load.specs[load.spec_count++];
    char *star = strchr(text, '*');
    spec->weight = star && star < strchr(text, '/') ? (unsigned)atoi(text) : 1;
    spec->path = strchr(text, '/');
    char *size = strrchr(text, '=');
    if (size && !strchr(text, '?')) {
        *size = '\0';
        spec->body_bytes = strtoul(size + 1, NULL, 10);
    }
    if (!spec->path || spec->weight == 0)
        usage();
    write_head(spec, &spec->heads[false], "");
    write_head(spec, &spec->heads[true], "Connection: close\r\n");
    load.weights += spec->weight;
}

int main(int argc, char **argv)
{
    for (int option; (option = getopt(argc, argv, "c:d:w:r:t:T:s:n:1p")) != -1;) {
        switch (option) {
        case 'c':
            load.connections = (unsigned)atoi(optarg);
            break;
        case 'd':
            load.seconds = atof(optarg);
            break;
        case 'w':
            load.warmup_s = atof(optarg);
            break;
        case 'r':
            load.rate = atof(optarg);
            break;
        case 't':
            load.think_ms = atof(optarg);
            break;
        case 'T':
            load.timeout_s = atof(optarg);
            break;
        case 's':
            load.random ^= strtoull(optarg, NULL, 10) * SEED_STEP;
            break;
        case 'p':
            load.parts = true;
            break;
        case 'n':
            load.new_connections = (unsigned)atoi(optarg);
            break;
        case '1':
            load.new_connections = UINT_MAX;
            break;
        default:
            usage();
        }
    }
    if (load.new_connections > load.connections)
        load.new_connections = load.connections;
    if (argc - optind < 2 || load.connections == 0 || load.think_ms * 2 >= WHEEL_SLOTS - 2)
        usage();
    parse_address(argv[optind]);
    for (int i = optind + 1; i < argc; i++)
        parse_spec(argv[i]);
    begin();
    run();
    print_result();
    return 0;
}
