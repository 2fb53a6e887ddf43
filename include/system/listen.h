/* listen.h: listening sockets: opened once by the master, inherited by all processes. */
#ifndef MYSERVER_SYSTEM_LISTEN_H
#define MYSERVER_SYSTEM_LISTEN_H

#include "base/base.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

struct config;
struct config_list;

struct listener {
    int fd;        /* non-blocking, close-on-exec; owned */
    int family;    /* AF_INET, AF_INET6, AF_UNIX */
    char *bind;    /* the setting that it comes from, without "uwsgi:"; owned */
    char *name;    /* what it listens on, as a user would write it; owned */
    bool is_uwsgi; /* it takes uwsgi packets, not HTTP */
    bool made;     /* by this program, or the one before it in an upgrade */
    bool shared;   /* another master or the parent uses it too: remove no file, filter nothing */
    char *unlink_path; /* the unix socket's path if this program made it, else NULL; owned */
    dev_t path_device; /* with path_inode: the file at unlink_path when it was made */
    ino_t path_inode;
    char server_name[46]; /* numeric address for SERVER_NAME, "" for unix sockets */
    char server_port[6];  /* decimal, "" for unix sockets */
};

struct listeners {
    struct listener *items; /* owned */
    size_t count;
};

/* The protocol and the address of a value of `bind`: the address, which points into it, is what
 * follows "uwsgi:". */
const char *listen_address(const char *bind, bool *is_uwsgi);
/* Opens `binds`, the values of `option` ("host:port", "[v6]:port", ":port", "unix:/path",
 * "fd://N"; for `bind`, "uwsgi:" may stand before it). [::] takes IPv4 connections too, unless
 * another address of `config` is for them on the same port. A stale unix socket (nobody accepts
 * there) is replaced, a live one is an error. `backlog` is clamped to net.core.somaxconn with a
 * warning. In an upgrade, sockets that the predecessor has open are taken from it. Any failure ends
 * the process: with EXIT_CRASH where a later start may succeed (the address is in use, or not there
 * yet), else with EXIT_CONFIG. */
void listen_open(struct listeners *all, const char *option, const struct config_list *binds,
                 const struct config *config, unsigned backlog, mode_t unix_mode);
/* Takes the sockets that systemd passes to the program, instead of `bind`; those with
 * FileDescriptorName=uwsgi take uwsgi packets. False: there is none. */
MUST_CHECK bool listen_activated(struct listeners *all);
/* "http://127.0.0.1:8000/, uwsgi:unix:/run/shop.sock", for the log. Owned by the caller. */
MUST_CHECK char *listen_urls(const struct listeners *all);
/* In an upgrade: `shared` when the other master uses them too, false when this one has taken over.
 * Sockets that were not made by this program stay shared. */
void listen_set_shared(struct listeners *all, bool shared);
/* In a child that is about to become the next master: lets it inherit the sockets. */
void listen_pass_on(const struct listeners *all);
/* Checks the form of `binds` and opens nothing; die(EXIT_CONFIG) where one is malformed. */
void listen_check(const char *option, const struct config_list *binds);
/* Lets no new TCP connection begin, while those whose handshake is under way complete it. A worker
 * then accepts for LISTEN_LAST_CALL_MS, and on until backlog_has_handshakes is false, and can close
 * without cutting off a client. After LISTEN_LAST_CALL_MOST_MS, clients that are left are taken for
 * dead. Leaves shared sockets alone: others may go on using them. */
void listen_begin_close(const struct listeners *all);
#define LISTEN_LAST_CALL_MS      100
#define LISTEN_LAST_CALL_MOST_MS 1500
/* Closes the descriptors and frees all; with `unlink_paths` also removes the files of unix sockets
 * that this program made, unless shared or replaced by another file. */
void listen_close(struct listeners *all, bool unlink_paths);

#endif
