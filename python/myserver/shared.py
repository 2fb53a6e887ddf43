"""What workers would share with each other because it was open when they were forked.

Looks only; fork.py decides what is done. Applications never import this module.
"""

import contextlib
import os
import stat
from typing import NamedTuple

from myserver import origins

EPOLL, EVENTFD = "anon_inode:[eventpoll]", "anon_inode:[eventfd]"
_EVENTS = {
    EPOLL: "an event loop (epoll)",
    "anon_inode:inotify": "an inotify descriptor",
    "anon_inode:[timerfd]": "a timer",
    EVENTFD: "an eventfd",
    "anon_inode:[signalfd]": "a signalfd",
}
_TERMINALS = ("/dev/ptmx", "/dev/pts/ptmx")


class Thing(NamedTuple):
    """An open descriptor that a fork duplicates."""

    fd: int
    target: str  # what /proc/self/fd says, which has the inode of a socket
    kind: str  # connection, pair, datagrams, listener, pipe, terminal, read, update, write, events
    text: str

    @property
    def line(self) -> str:
        """Who made it, as part of a sentence."""
        line = origins.of_descriptor(self.target)
        return "" if line == "?" else f", opened at {line}"


def descriptors() -> dict[int, str]:
    """What is open, and what /proc says of it."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def things(known: dict[int, str]) -> list[Thing]:
    """All that is open and was not when `known` was taken, but for what may be shared."""
    mapped = _mapped_files()
    found = []
    for fd, target in descriptors().items():
        if known.get(fd) == target:
            continue
        try:
            thing = _look(fd, target, mapped)
        except OSError:  # closed meanwhile by another thread
            continue
        if thing:
            found.append(thing)
    return found


def _look(fd: int, target: str, mapped: set[tuple[int, int]]) -> Thing | None:
    if target.startswith("socket:"):
        return _look_at_socket(fd, target)
    if target.startswith("pipe:"):
        return Thing(fd, target, "pipe", f"a pipe (descriptor {fd})")
    if target in _EVENTS:
        return Thing(fd, target, "events", f"{_EVENTS[target]} (descriptor {fd})")
    if target in _TERMINALS:  # our end of one: a program runs at the other
        return Thing(fd, target, "terminal", f"a terminal (descriptor {fd})")
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or target.startswith("/memfd:"):
        return None
    if (status.st_dev, status.st_ino) in mapped:  # used through memory: its offset means nothing
        return None
    kind = _kind_of_file(fd)
    return Thing(fd, target, kind, f"the file {target} (descriptor {fd})") if kind else None


def _kind_of_file(fd: int) -> str | None:
    """read, update, write; None: what is written goes to the end."""
    import fcntl

    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    access = flags & os.O_ACCMODE
    if access == os.O_RDONLY:
        return "read"
    if flags & os.O_APPEND:
        return None
    if access == os.O_RDWR:
        return "update"
    # Writers that share an offset write behind each other, as to a log.
    at_end = os.lseek(fd, 0, os.SEEK_CUR) == os.fstat(fd).st_size
    return None if at_end else "write"


def _mapped_files() -> set[tuple[int, int]]:
    found = set()
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            _range, permissions, _offset, device, inode, *_ = line.split()
            if permissions[3] == "s":
                major, minor = device.split(":")
                found.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return found


def _look_at_socket(fd: int, target: str) -> Thing | None:
    """Datagrams are whole, whoever sends them: a socket for them may be shared, but for a pair."""
    import socket

    with socket.socket(fileno=os.dup(fd)) as copy:
        is_stream = copy.type in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
        if not is_stream and copy.family != socket.AF_UNIX:
            return None
        try:
            peer = copy.getpeername()
        except OSError:
            if not is_stream:
                return None
            bound = copy.getsockname() or "nothing"
            return Thing(
                fd, target, "listener", f"a socket to nobody (bound to {bound}) (descriptor {fd})"
            )
        # In the kernel's pairs nobody has a name; an accepted unix connection has its own.
        if not peer and not copy.getsockname():
            kind = "pair" if is_stream else "datagrams"
            return Thing(fd, target, kind, f"a socket pair (descriptor {fd})")
        if not is_stream:
            return None
    return Thing(fd, target, "connection", f"a socket to {peer or target} (descriptor {fd})")


def with_children(pids: list[int], without: int = -1) -> set[str]:
    """The links of all pipes and sockets that these processes and their children have open; not those
    of `without`, and of its children.
    """
    found: set[str] = set()
    seen = {without}
    while pids:
        pid = pids.pop()
        if pid in seen:
            continue
        seen.add(pid)
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            for name in os.listdir(f"/proc/{pid}/fd"):
                link = os.readlink(f"/proc/{pid}/fd/{name}")
                if link.startswith(("pipe:", "socket:")):
                    found.add(link)
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                pids += [int(child) for child in file.read().split()]
    return found


def unnamed_sockets() -> set[str]:
    """The links of all connected unix sockets without a name: ends of pairs, and clients."""
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as table:
        rows = [line.split() for line in table][1:]
    return {f"socket:[{row[6]}]" for row in rows if len(row) == 7 and row[5] == "03"}


def give_end_of_file(things_: list[Thing]) -> None:
    """Replaces each connection, if it is still open, by one whose other end has closed."""
    import socket

    for thing in things_:
        if not is_still(thing.fd, thing.target):
            continue
        ours, theirs = socket.socketpair()
        theirs.close()
        with ours:
            os.dup2(ours.fileno(), thing.fd, inheritable=os.get_inheritable(thing.fd))


def give_own_offset(things_: list[Thing]) -> list[str]:
    """Opens each file anew, at the same place, under the same number; warnings where it cannot."""
    import fcntl

    kept = os.O_ACCMODE | os.O_NONBLOCK | os.O_SYNC | os.O_DSYNC | os.O_DIRECT | os.O_NOATIME
    warnings = []
    for thing in things_:
        if not is_still(thing.fd, thing.target):
            continue
        try:
            flags = fcntl.fcntl(thing.fd, fcntl.F_GETFL) & kept
            own = os.open(f"/proc/self/fd/{thing.fd}", flags | os.O_CLOEXEC)
        except OSError as error:
            warnings.append(f"{thing.text} is shared by all workers: {error.strerror}")
            continue
        os.lseek(own, os.lseek(thing.fd, 0, os.SEEK_CUR), os.SEEK_SET)
        os.dup2(own, thing.fd, inheritable=os.get_inheritable(thing.fd))
        os.close(own)
    return warnings


def is_still(fd: int, target: str) -> bool:
    """Whether it is open, and the same."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == target
    except OSError:
        return False
