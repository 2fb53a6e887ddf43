/* listen.h: listening sockets: opened once by the master, inherited by all. */
#ifndef MYSERVER_LISTEN_H
#define MYSERVER_LISTEN_H

#include "base.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

struct config_list;

struct listener {
    int fd;            /* non-blocking, close-on-exec; owned */
    int family;        /* AF_INET, AF_INET6, AF_UNIX */
    char *bind;        /* the setting that it comes from; owned */
    char *name;        /* what it listens on, as a user would write it; owned */
    bool made;         /* by this program, or the one before it in an upgrade */
    bool shared;       /* with another master or whoever started us: not ours to shut */
    char *unlink_path; /* the unix socket's path if we made it, else NULL; owned */
    dev_t path_device; /* with path_inode: which file unlink_path was when we made it */
    ino_t path_inode;
    char server_name[46]; /* numeric address for SERVER_NAME, "" for unix sockets */
    char server_port[6];  /* decimal, "" for unix sockets */
};

struct listeners {
    struct listener *items; /* owned */
    size_t count;
};

/* Opens `binds`, the values of `option` ("host:port", "[v6]:port", ":port", "unix:/path",
 * "fd://N"). A stale unix socket (nobody answers) is replaced, a live one is an error. `backlog` is
 * clamped to net.core.somaxconn with a warning. In an upgrade, what the master before has open is
 * taken from it. Any failure ends the process: EXIT_CRASH where it may pass by itself (the address
 * is in use, or not there yet), else EXIT_CONFIG. */
void listen_open(struct listeners *all, const char *option, const struct config_list *binds,
                 unsigned backlog, mode_t unix_mode);
/* Takes what systemd passes to the program instead of `bind`. False: nothing. */
MUST_CHECK bool listen_activated(struct listeners *all);
/* "http://127.0.0.1:8000/, unix:/run/shop.sock", for the log. Owned by the caller. */
MUST_CHECK char *listen_urls(const struct listeners *all);
/* In an upgrade: the other master has them too, or has left them to us. */
void listen_set_shared(struct listeners *all, bool shared);
/* In a child that is about to become the next master. */
void listen_pass_on(const struct listeners *all);
/* Looks at the words only, and opens nothing: die(EXIT_CONFIG) where they are malformed. */
void listen_check(const char *option, const struct config_list *binds);
/* No new connection begins any more, while those whose handshake is under way complete it: who
 * accepts for LISTEN_LAST_CALL_MS more, and until backlog_has_handshakes says that there are none,
 * and then closes, has cut off nobody. After LISTEN_LAST_CALL_MOST_MS only the dead are left. Only
 * sockets that we made: what is inherited others may go on using. */
void listen_begin_close(const struct listeners *all);
#define LISTEN_LAST_CALL_MS      100
#define LISTEN_LAST_CALL_MOST_MS 1500
/* Closes the descriptors; with `unlink_paths` also removes the unix sockets we made (only if
 * the path still is ours). Frees all. */
void listen_close(struct listeners *all, bool unlink_paths);

#endif
