/* idle.c: many connections that have had one answer and then do nothing, as browsers and proxies
 * leave them.
 *
 * Owns: the sockets, spread over as many processes as the limit of open files asks for, each with
 * source addresses of its own, for one has no more ports than 28,000. Says {"open": N} on a line
 * when every connection has had its answer, waits for the end of its standard input, and then says
 * {"lost": N}, how many of them were closed meanwhile. Talks to 127.0.0.1 only. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define EACH_MAX  18000u /* of a process; less if the limit of open files is lower */
#define SPARE_FDS 64
#define ANSWER_S  30

static struct sockaddr_in address = {.sin_family = AF_INET};
static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/* A connection from 127.0.1.SOURCE. */
static int open_connection(unsigned source)
{
    int on = 1;
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 256 + source);
    struct timeval patience = {.tv_sec = ANSWER_S};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (fd < 0 || bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        perror("idle: connect");
        exit(1);
    }
    return fd;
}

/* Answers are short: one read has all of it. */
static void ask(int fd)
{
    char answer[4096];
    if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0 ||
        recv(fd, answer, sizeof(answer), 0) <= 0) {
        fprintf(stderr, "idle: no answer: %s\n", strerror(errno));
        exit(1);
    }
}

static unsigned count_lost(const int *fds, unsigned count)
{
    unsigned lost = 0;
    char byte;
    for (unsigned i = 0; i < count; i++)
        lost += recv(fds[i], &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0 || errno != EAGAIN;
    return lost;
}

/* One process: opens its share, says so on `out`, waits until `in` ends, says what was lost. */
static void hold(unsigned count, unsigned source, int out, int in)
{
    int *fds = calloc(count, sizeof(*fds));
    for (unsigned i = 0; i < count; i++) {
        fds[i] = open_connection(source);
        ask(fds[i]);
    }
    char byte;
    unsigned lost;
    if (write(out, &count, sizeof(count)) < 0 || read(in, &byte, 1) < 0)
        exit(1);
    lost = count_lost(fds, count);
    if (write(out, &lost, sizeof(lost)) < 0)
        exit(1);
    exit(0);
}

/* The sum of one number from each process; -1: one of them has ended. */
static long sum_of(const int *pipes, unsigned count)
{
    long sum = 0;
    for (unsigned i = 0; i < count; i++) {
        unsigned number;
        if (read(pipes[i], &number, sizeof(number)) != sizeof(number))
            return -1;
        sum += number;
    }
    return sum;
}

int main(int argc, char **argv)
{
    if (argc != 3 || strncmp(argv[1], "127.0.0.1:", 10) != 0 || atoi(argv[2]) <= 0) {
        fprintf(stderr, "usage: idle 127.0.0.1:PORT CONNECTIONS\n");
        return 2;
    }
    address.sin_port = htons((uint16_t)atoi(argv[1] + 10));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    unsigned each = files.rlim_cur < EACH_MAX + SPARE_FDS ? (unsigned)files.rlim_cur - SPARE_FDS
                                                          : EACH_MAX;
    unsigned total = (unsigned)atoi(argv[2]), processes = (total + each - 1) / each;
    int *pipes = calloc(processes, sizeof(*pipes)), go[2];
    if (pipe(go) < 0)
        return 1;
    for (unsigned i = 0; i < processes; i++) {
        int ends[2];
        if (pipe(ends) < 0)
            return 1;
        unsigned share = total / processes + (i < total % processes);
        if (fork() == 0) {
            close(go[1]);
            hold(share, i, ends[1], go[0]);
        }
        close(ends[1]);
        pipes[i] = ends[0];
    }
    long open = sum_of(pipes, processes);
    if (open < 0)
        return 1;
    printf("{\"open\": %ld}\n", open);
    fflush(stdout);
    struct pollfd parent = {.fd = STDIN_FILENO, .events = POLLIN};
    poll(&parent, 1, -1);
    close(go[1]);
    printf("{\"lost\": %ld}\n", sum_of(pipes, processes));
    while (wait(NULL) > 0)
        ;
    return 0;
}
