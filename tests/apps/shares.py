"""A connection that a request waits for, and who else has it. Says so when it is shut down."""

import os
import select
import socket
import threading
import time

IMPORTED = socket.socketpair()
OPENED = []
come: list[str] = []


def say(text: str) -> None:
    """Print in one piece."""
    os.write(1, f"{text}\n".encode())


def watch(peer: socket.socket) -> None:
    """Wait at the other end."""
    say("the connection is shut" if peer.recv(1) == b"" else "the connection lives")


def recv(ours: socket.socket) -> None:
    """Wait in recv(2), without taking what comes."""
    ours.recv(1, socket.MSG_PEEK)


def dup(ours: socket.socket) -> None:
    """The same by another descriptor."""
    ours.dup().recv(1, socket.MSG_PEEK)


def poll(ours: socket.socket) -> None:
    """Wait for it and for others."""
    poller = select.poll()
    pair = socket.socketpair()
    for each in (ours, *pair):
        poller.register(each, select.POLLIN)
    poller.poll()


def select_(ours: socket.socket) -> None:
    """Wait with select(2)."""
    select.select([ours], [], [])


def epoll(ours: socket.socket) -> None:
    """Wait with an epoll set, as event loops do."""
    poller = select.epoll()
    poller.register(ours, select.EPOLLIN)
    poller.poll()


class Client:
    """What many libraries are: one connection, and a lock around each exchange."""

    def __init__(self) -> None:
        self.lock, self.pair = threading.Lock(), None

    def ask(self) -> None:
        """Wait for an answer, when the others have theirs."""
        with self.lock:
            say("asks")
            if not self.pair:
                self.pair = socket.socketpair()
                start(watch, self.pair[1])
            self.pair[0].recv(1)


CLIENT = Client()
WAYS = {"recv": recv, "dup": dup, "poll": poll, "select": select_, "epoll": epoll}


def start(function, *arguments) -> None:
    """Run it in a thread that nobody waits for."""
    threading.Thread(target=function, args=arguments, daemon=True).start()


def application(environ, start_response):
    """/open/WAY: open a connection that a thread of the application reads, too, in its way;
    /opened, /imported, /own: wait for that, for the one of the import, for a new one;
    /client/LIMIT: for the one of the client, which others wait for by its lock, when two have come, each for
    so long."""
    _, name, *way = environ["PATH_INFO"].split("/")
    start_response("200 OK", [])
    if name == "open":
        OPENED[:] = socket.socketpair()
        start(watch, OPENED[1])
        start(WAYS[way[0]], OPENED[0])
        return [b"opened"]
    if name == "client":
        come.append(name)
        while len(come) < 2:
            time.sleep(0.005)
        environ["myserver.set_timeout"](float(way[0]))
        CLIENT.ask()
        return [b"answered"]
    ours, peer = {"opened": OPENED, "imported": IMPORTED, "own": socket.socketpair()}[name]
    if name != "opened":
        start(watch, peer)
    ours.recv(1)
    return [b"came"]
