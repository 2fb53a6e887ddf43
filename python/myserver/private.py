"""What a process has open for nobody but itself: pipes and socket pairs of which it has both ends,
eventfds, and the epoll descriptors that watch them. Each worker gets its own, under the same numbers.

Called by fork.py; applications never import this module.
"""

import contextlib
import fcntl
import os
import struct
from typing import NamedTuple

from myserver import shared
from myserver.shared import Thing

# sock_diag(7): a request for all unix sockets that are connected, with the inode of the other end.
_NETLINK_SOCK_DIAG, _BY_FAMILY, _REQUEST_DUMP, _PEER, _CONNECTED = 4, 20, 0x301, 2, 1 << 1
_ASK = struct.pack(
    "=IHHIIBBHIIIII", 40, _BY_FAMILY, _REQUEST_DUMP, 1, 0, 1, 0, 0, _CONNECTED, 0, 1 << _PEER, 0, 0
)
_HEADS = 16 + 16  # of a message, and of the socket that it is about


class Own(NamedTuple):
    """One of them."""

    kind: str  # pipe, pair, eventfd, epoll
    ends: list[list[int]]  # the descriptors of each end; of a pipe first those that read
    targets: dict[int, str]  # what /proc says of each descriptor


def find(things: list[Thing], is_alone: bool) -> list[Own]:
    """Those among `things`, which the application has opened and nobody else renews or shares.

    `is_alone`: no thread or child uses what it has inherited.
    """
    found = [_own("epoll", [[thing]]) for thing in things if thing.target == shared.EPOLL]
    if not is_alone:
        return found
    ours = [_own("pipe", ends) for ends in _pipes(things)]
    ours += [_own("pair", ends) for ends in _pairs(things)]
    ours += [_own("eventfd", [same]) for same in _eventfds(things)]
    return found + [own for own in ours if not any(_has_content(end[0]) for end in own.ends)]


def renew(found: list[Own]) -> None:
    """In a worker: opens each anew, those that watch others last."""
    for own in sorted(found, key=lambda own: own.kind == "epoll"):
        if all(shared.is_still(fd, target) for fd, target in own.targets.items()):
            _RENEW[own.kind](own.ends)
            own.targets.update((fd, os.readlink(f"/proc/self/fd/{fd}")) for fd in own.targets)


def _own(kind: str, ends: list[list[Thing]]) -> Own:
    targets = {thing.fd: thing.target for end in ends for thing in end}
    return Own(kind, [[thing.fd for thing in end] for end in ends], targets)


# --- what is alike -------------------------------------------------------------------------------


def _by_target(things: list[Thing], *kinds: str) -> dict[str, list[Thing]]:
    found: dict[str, list[Thing]] = {}
    for thing in things:
        if thing.kind in kinds:
            found.setdefault(thing.target, []).append(thing)
    return found


def _pipes(things: list[Thing]) -> list[list[list[Thing]]]:
    def is_for(thing: Thing, access: int) -> bool:
        return fcntl.fcntl(thing.fd, fcntl.F_GETFL) & os.O_ACCMODE == access

    found = [
        [
            [thing for thing in same if is_for(thing, access)]
            for access in (os.O_RDONLY, os.O_WRONLY)
        ]
        for same in _by_target(things, "pipe").values()
    ]
    return [ends for ends in found if all(ends)]


def _eventfds(things: list[Thing]) -> list[list[Thing]]:
    found: dict[str, list[Thing]] = {}
    for thing in things:
        if thing.target == shared.EVENTFD:
            found.setdefault(_info(thing.fd).get("eventfd-id", str(thing.fd)), []).append(thing)
    return list(found.values())


def _pairs(things: list[Thing]) -> list[list[list[Thing]]]:
    by_target = _by_target(things, "pair", "datagrams")
    others = _other_ends() if len(by_target) > 1 else {}
    return [
        [same, by_target[others[target]]]
        for target, same in by_target.items()
        if target < others.get(target, "") and others[target] in by_target
    ]


def _other_ends() -> dict[str, str]:
    """The link of each connected unix socket, and that of the other end; empty where the kernel does
    not tell.
    """
    import socket

    found: dict[str, str] = {}
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel,
    ):
        kernel.send(_ASK)
        kind = _BY_FAMILY
        while kind == _BY_FAMILY:
            answer, at = kernel.recv(1 << 17), 0
            while at < len(answer):
                size, kind = struct.unpack_from("=IH", answer, at)
                if kind == _BY_FAMILY:
                    _note_ends(answer[at : at + size], found)
                at += (size + 3) & ~3
    return found


def _note_ends(message: bytes, found: dict[str, str]) -> None:
    (inode,) = struct.unpack_from("=I", message, 20)
    at = _HEADS
    while at < len(message):
        size, kind = struct.unpack_from("=HH", message, at)
        if kind == _PEER:
            found[f"socket:[{inode}]"] = f"socket:[{struct.unpack_from('=I', message, at + 4)[0]}]"
        at += max(4, (size + 3) & ~3)


def _has_content(fd: int) -> bool:
    """Perhaps on purpose: as many bytes as there are permits."""
    import termios

    count = _info(fd).get("eventfd-count")
    if count is not None:
        return int(count, 16) > 0
    try:
        return fcntl.ioctl(fd, termios.FIONREAD, bytes(4)) != bytes(4)
    except OSError:
        return True


def _info(fd: int) -> dict[str, str]:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in info)}


# --- in a worker ---------------------------------------------------------------------------------


def _put(new: int, fds: list[int]) -> None:
    """In place of these: a new descriptor, with what can be set of the old one."""
    flags = fcntl.fcntl(fds[0], fcntl.F_GETFL)
    fcntl.fcntl(new, fcntl.F_SETFL, flags & ~os.O_ACCMODE)
    for fd in fds:
        os.dup2(new, fd, inheritable=os.get_inheritable(fd))
    os.close(new)


def _renew_pipe(ends: list[list[int]]) -> None:
    size = fcntl.fcntl(ends[0][0], fcntl.F_GETPIPE_SZ)
    for new, fds in zip(os.pipe(), ends, strict=True):
        with contextlib.suppress(OSError):  # more than this user may have
            fcntl.fcntl(new, fcntl.F_SETPIPE_SZ, size)
        _put(new, fds)


def _renew_pair(ends: list[list[int]]) -> None:
    import socket

    with socket.socket(fileno=os.dup(ends[0][0])) as old:
        kind = old.type
    for new, fds in zip(socket.socketpair(socket.AF_UNIX, kind), ends, strict=True):
        _put(new.detach(), fds)


def _renew_eventfd(ends: list[list[int]]) -> None:
    is_semaphore = _info(ends[0][0]).get("eventfd-semaphore") == "1"
    _put(os.eventfd(0, os.EFD_SEMAPHORE if is_semaphore else 0), ends[0])


def _renew_epoll(ends: list[list[int]]) -> None:
    """Watches the same. One that knows what it watches by another word than its number is left alone;
    CPython and libuv set only the lower half of that word.
    """
    import select

    fd = ends[0][0]
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
        watched = [line.split() for line in info if line.startswith("tfd:")]
    if any(int(row[1]) != int(row[5], 16) & 0xFFFFFFFF for row in watched):
        return
    with select.epoll() as own:
        for row in watched:
            with contextlib.suppress(OSError):  # another number of it was closed
                own.register(int(row[1]), int(row[3], 16))
        os.dup2(own.fileno(), fd, inheritable=os.get_inheritable(fd))


_RENEW = {
    "pipe": _renew_pipe,
    "pair": _renew_pair,
    "eventfd": _renew_eventfd,
    "epoll": _renew_epoll,
}
