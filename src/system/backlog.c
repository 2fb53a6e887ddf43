/* backlog.c: the queues of listening sockets, from the kernel's socket diagnosis.
 *
 * Owns nothing between two readings. TCP_INFO gives the same for TCP sockets, and is quicker, but
 * it needs the descriptor: only who accepts has it, as a socket that a process keeps open only to
 * ask goes on taking connections after all others have closed it. The kernel finds sockets by
 * inode, unix sockets as well (sock_diag(7)).
 *
 * Never waits: netlink answers at once. Where it is not allowed, nothing is known. */
#include "system/backlog.h"

#include "system/listen.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_BYTES 32768

void backlog_init(struct backlog *all, const struct listeners *listeners)
{
    struct stat socket;
    for (size_t i = 0; i < listeners->count; i++) {
        all[i] = (struct backlog){.family = listeners->items[i].family};
        if (fstat(listeners->items[i].fd, &socket) == 0)
            all[i].inode = socket.st_ino;
    }
}

/* Asks for all sockets of the family in one state; `port`: only TCP sockets with it, 0: all. */
static bool ask(int netlink_fd, int family, unsigned state, uint16_t port)
{
    struct {
        struct nlmsghdr header;
        union {
            struct inet_diag_req_v2 inet;
            struct unix_diag_req unix_;
        } wish;
    } request = {
        .header = {.nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
    if (family == AF_UNIX) {
        request.wish.unix_ = (struct unix_diag_req){
            .sdiag_family = AF_UNIX, .udiag_states = 1u << state, .udiag_show = UDIAG_SHOW_RQLEN};
        request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.wish.unix_);
    } else {
        request.wish.inet = (struct inet_diag_req_v2){.sdiag_family = (uint8_t)family,
                                                      .sdiag_protocol = IPPROTO_TCP,
                                                      .idiag_states = 1u << state,
                                                      .id = {.idiag_sport = htons(port)}};
        request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.wish.inet);
    }
    ssize_t len = (ssize_t)request.header.nlmsg_len;
    return send(netlink_fd, &request, (size_t)len, 0) == len;
}

/* Asks for one unix socket. */
static bool ask_for(int netlink_fd, ino_t inode)
{
    struct {
        struct nlmsghdr header;
        struct unix_diag_req wish;
    } request = {.header = {.nlmsg_len = sizeof request,
                            .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                            .nlmsg_flags = NLM_F_REQUEST},
                 .wish = {.sdiag_family = AF_UNIX,
                          .udiag_states = 1u << TCP_LISTEN,
                          .udiag_ino = (uint32_t)inode,
                          .udiag_show = UDIAG_SHOW_RQLEN,
                          .udiag_cookie = {UINT32_MAX, UINT32_MAX}}}; /* whichever it has */
    return send(netlink_fd, &request, sizeof request, 0) == (ssize_t)sizeof request;
}

static void note(struct backlog *all, size_t count, ino_t inode, unsigned waiting, unsigned room)
{
    for (size_t i = 0; i < count; i++)
        if (all[i].inode == inode) {
            all[i].known = true;
            all[i].waiting = waiting;
            all[i].room = room;
        }
}

static void note_unix(struct backlog *all, size_t count, const struct nlmsghdr *answer)
{
    const struct unix_diag_msg *socket = NLMSG_DATA(answer);
    const char *at = (const char *)(socket + 1);
    const char *end = (const char *)answer + answer->nlmsg_len;
    while (at + sizeof(struct nlattr) <= end) {
        const struct nlattr *attribute = (const struct nlattr *)at;
        if (attribute->nla_len < sizeof *attribute)
            return;
        if (attribute->nla_type == UNIX_DIAG_RQLEN) {
            struct unix_diag_rqlen queue;
            memcpy(&queue, attribute + 1, sizeof queue);
            note(all, count, socket->udiag_ino, queue.udiag_rqueue, queue.udiag_wqueue);
        }
        at += NLA_ALIGN(attribute->nla_len);
    }
}

/* Receives one message of answers. False: it was the last one. */
static bool take_answers(int netlink_fd, struct backlog *all, size_t count)
{
    _Alignas(struct nlmsghdr) char bytes[ANSWER_BYTES];
    ssize_t got = recv(netlink_fd, bytes, sizeof bytes, 0);
    if (got <= 0)
        return false;
    size_t len = (size_t)got;
    for (const struct nlmsghdr *answer = (struct nlmsghdr *)bytes; NLMSG_OK(answer, len);
         answer = NLMSG_NEXT(answer, len)) {
        if (answer->nlmsg_type != SOCK_DIAG_BY_FAMILY)
            return false; /* NLMSG_DONE, NLMSG_ERROR */
        const struct inet_diag_msg *socket = NLMSG_DATA(answer);
        if (socket->idiag_family == AF_UNIX)
            note_unix(all, count, answer);
        else
            note(all, count, socket->idiag_inode, socket->idiag_rqueue, socket->idiag_wqueue);
    }
    return true;
}

void backlog_read(struct backlog *all, size_t count)
{
    static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
    int netlink_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    bool wanted[ARRAY_LEN(families)] = {false};
    for (size_t i = 0; i < count; i++) {
        all[i].known = false;
        for (size_t f = 0; f < ARRAY_LEN(families); f++)
            wanted[f] = wanted[f] || families[f] == all[i].family;
    }
    for (size_t f = 0; f < ARRAY_LEN(families) && netlink_fd >= 0; f++)
        if (wanted[f] && ask(netlink_fd, families[f], TCP_LISTEN, 0))
            while (take_answers(netlink_fd, all, count))
                continue;
    if (netlink_fd >= 0)
        close(netlink_fd);
}

int backlog_open(const struct listeners *listeners)
{
    for (size_t i = 0; i < listeners->count; i++)
        if (listeners->items[i].family == AF_UNIX)
            return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
    return -1;
}

unsigned backlog_waiting(const struct backlog *one, int fd, int netlink_fd)
{
    struct backlog told = *one;
    struct tcp_info info;
    socklen_t len = sizeof info;
    if (one->family != AF_UNIX && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
        return info.tcpi_unacked; /* of a listening socket, these are its queue (tcp_get_info) */
    told.known = false;
    if (netlink_fd >= 0 && ask_for(netlink_fd, one->inode))
        (void)take_answers(netlink_fd, &told, 1);
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    return told.known ? told.waiting : poll(&polled, 1, 0) > 0;
}

/* Reads all answers. True: at least one socket was among them. */
static bool has_answer(int netlink_fd)
{
    _Alignas(struct nlmsghdr) char bytes[ANSWER_BYTES];
    bool any = false, more = true;
    while (more) {
        ssize_t got = recv(netlink_fd, bytes, sizeof bytes, 0);
        more = got >= (ssize_t)sizeof(struct nlmsghdr) &&
               ((struct nlmsghdr *)bytes)->nlmsg_type == SOCK_DIAG_BY_FAMILY;
        any = any || more;
    }
    return any;
}

bool backlog_has_handshakes(const struct listeners *listeners)
{
    int netlink_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    bool any = false;
    for (size_t i = 0; i < listeners->count && netlink_fd >= 0 && !any; i++) {
        const struct listener *l = &listeners->items[i];
        any = l->family != AF_UNIX &&
              ask(netlink_fd, l->family, TCP_SYN_RECV, (uint16_t)atoi(l->server_port)) &&
              has_answer(netlink_fd);
    }
    if (netlink_fd >= 0)
        close(netlink_fd);
    return any;
}
