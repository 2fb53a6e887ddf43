"""Random clients against the real program for a while, with exact accounting.

Every request carries a number of its own, and every answer must begin with it. Well-behaved
requests must get exactly one whole answer, and one line in the access log; rude clients (who
abort, trickle, send garbage) must harm nobody. Meanwhile workers may be reloaded (`reload_every`)
or killed (`kill_every`).

    python tests/tools/stress.py --seconds 30 --workers 2 --threads 4 --reload-every 3
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import SLOWNESS, Server  # noqa: E402

BIG_BYTES = 3 * 1024 * 1024  # of the application
NUMBERS = itertools.count(1)
PATIENCE_S = 20 * SLOWNESS


class Lost(Exception):
    """A request that a well-behaved client sent has no whole answer."""


class Wrong(Exception):
    """An answer that came whole, and is not that of the request: no kill explains it."""


class ClosedIdle(Exception):
    """A kept-alive connection was closed before the first byte of an answer: ask again."""


class Client:
    """One connection that keeps accounts."""

    def __init__(self, server: Server, accounts: Accounts) -> None:
        self.accounts = accounts
        self.socket = server.connect()
        self.socket.settimeout(PATIENCE_S)
        self.data = b""
        self.answered = 0
        self.open = True

    def close(self) -> None:
        """Leave."""
        self.socket.close()
        self.open = False

    def send(self, data: bytes) -> None:
        """Send, as far as the server takes it."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.open = False

    @contextmanager
    def sending(self, data: bytes) -> Iterator[None]:
        """Send it meanwhile, in a thread that has ended behind: nobody closes its socket before.

        Its failure is raised here, unless what was done meanwhile has failed first.
        """
        failures: list[OSError] = []

        def send() -> None:
            try:
                self.send(data)
            except OSError as error:
                failures.append(error)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield
        except BaseException:
            with suppress(OSError):  # it has ended already
                self.socket.shutdown(socket.SHUT_RDWR)
            raise
        finally:
            sender.join()
        if failures:
            raise failures[0]

    def more(self, size: int = 65536) -> bytes:
        """What comes next; b"" at the end."""
        try:
            return self.socket.recv(size)
        except ConnectionResetError:
            return b""

    def upto(self, mark: bytes) -> bytes:
        """Bytes up to and with `mark`."""
        while mark not in self.data:
            piece = self.more()
            if not piece:
                raise Lost(f"the connection ended within {self.data[:200]!r}")
            self.data += piece
        end = self.data.index(mark) + len(mark)
        found, self.data = self.data[:end], self.data[end:]
        return found

    def exactly(self, count: int) -> bytes:
        """`count` bytes."""
        pieces, have = [self.data], len(self.data)
        while have < count:
            piece = self.more()
            if not piece:
                raise Lost(f"the connection ended after {have} of {count} bytes")
            pieces.append(piece)
            have += len(piece)
        data = b"".join(pieces)
        self.data = data[count:]
        return data[:count]

    def to_end(self) -> bytes:
        """All that comes."""
        while piece := self.more():
            self.data += piece
        data, self.data = self.data, b""
        return data

    def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        if not self.data:
            self.data = self.more()
            if not self.data and self.answered:
                raise ClosedIdle
        head = self.upto(b"\r\n\r\n").decode("latin-1")
        status = re.match(r"HTTP/1\.1 (\d{3}) ", head)
        if not status:
            raise Wrong(f"no head of an answer: {head[:200]!r}")
        fields = dict(
            line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line
        )
        if "transfer-encoding" in fields:
            body = b""
            while size := int(self.upto(b"\r\n"), 16):
                body += self.exactly(size)
                self.exactly(2)
            self.exactly(2)
        elif "content-length" in fields:
            body = self.exactly(int(fields["content-length"]))
        else:
            body = self.to_end()
        self.open = self.open and fields.get("connection") != "close"
        self.answered += 1
        return int(status[1]), body


class Accounts:
    """What was sent and what came back."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.over = threading.Event()  # nobody asks any more
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.whole: set[int] = set()  # numbers whose answer came whole
        self.slowest = 0.0

    def count(self, what: str, count: int = 1) -> None:
        """Add to a counter."""
        with self.lock:
            self.counts[what] += count

    def fault(self, text: str) -> None:
        """Something that must not be."""
        with self.lock:
            self.faults.append(text)

    def done(self, number: int, seconds: float) -> None:
        """A request has its answer."""
        with self.lock:
            self.counts["answered"] += 1
            self.slowest = max(self.slowest, seconds)
            if number in self.whole:
                self.faults.append(f"request {number} was answered twice")
            self.whole.add(number)


def request(target: str, body: bytes = b"", *lines: str) -> bytes:
    """The bytes of a request."""
    head = [f"{'POST' if body else 'GET'} {target} HTTP/1.1", "Host: stress", *lines]
    if body and not any(line.startswith("Transfer-Encoding") for line in lines):
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def chunked(body: bytes, step: int) -> bytes:
    """A body in chunks."""
    pieces = (body[i : i + step] for i in range(0, len(body), step))
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


class Wish:
    """A request and how its answer has to look."""

    def __init__(self, rng: random.Random, small: bool = False) -> None:
        self.number = next(NUMBERS)
        kinds = ["fast"] * 8 + ["sleep", "cpu", "stream", "write", "boom"]
        kind = rng.choice(kinds if small else kinds + ["big", "file", "upload", "upload"])
        self.length: int | None = None
        self.status, self.more = 200, b""
        query = f"id={self.number}"
        if kind in ("sleep", "cpu"):
            query += f"&ms={rng.choice([1, 5, 20, 60])}"
        elif kind in ("stream", "write"):
            pieces, size = rng.randrange(30), 1000
            query += f"&n={pieces}"
            self.length = pieces * size
        self.mark = query.encode() + b"\n"
        if kind in ("big", "file"):
            self.length = BIG_BYTES
        if kind == "file":
            self.mark = b""
        if kind == "boom":
            self.status = 500
        body, lines = b"", []
        if kind == "upload":
            body = rng.randbytes(rng.choice([1, 1000, 100_000, 700_000]))
            self.more = f"{len(body)} {hashlib.sha1(body).hexdigest()}".encode()
            if rng.random() < 0.4:
                lines = ["Transfer-Encoding: chunked"]
                body = chunked(body, rng.choice([10_000, 1000, 65536]))
        self.kind = kind
        self.target = f"/{kind}?{query}"
        self.body, self.lines = body, lines

    def as_sent(self, *lines: str) -> bytes:
        """As sent."""
        return request(self.target, self.body, *self.lines, *lines)

    def check(self, status: int, body: bytes) -> None:
        """Wrong, when that is not its answer."""
        if status != self.status:
            raise Wrong(f"{self.target}: status {status}, not {self.status}")
        if status != 200:
            return
        if not body.startswith(self.mark):
            raise Wrong(f"{self.target}: another request's answer, {body[:60]!r}")
        if self.length is not None and len(body) != len(self.mark) + self.length:
            raise Wrong(f"{self.target}: {len(body)} bytes, not {len(self.mark) + self.length}")
        if self.more and body != self.mark + self.more:
            raise Wrong(f"{self.target}: {body[:100]!r}")


def fulfil(client: Client, wishes: list[Wish], *lines: str, rng: random.Random) -> None:
    """Send all wishes at once (or in pieces) and check the answers."""
    accounts = client.accounts
    began = time.monotonic()
    data = b"".join(wish.as_sent(*lines) for wish in wishes)
    if rng.random() < 0.1:
        for cut in sorted(rng.sample(range(1, len(data)), min(3, len(data) - 1))):
            client.send(data[:cut])
            time.sleep(rng.random() / 50)
            data = data[cut:]
            break
    large = len(data) > 100_000
    if not large:
        client.send(data)
    with client.sending(data) if large else nullcontext():
        for i, wish in enumerate(wishes):
            if i and not client.open:
                accounts.count("pipelined behind a close", len(wishes) - i)
                break
            try:
                wish.check(*client.answer())
            except ClosedIdle:
                accounts.count("closed while idle")
                client.open = False
                break
            accounts.done(wish.number, time.monotonic() - began)


def polite(server: Server, accounts: Accounts, rng: random.Random) -> None:
    """A kept-alive connection, with rests."""
    client = Client(server, accounts)
    try:
        for _ in range(rng.randrange(1, 40)):
            accounts.count("sent")
            fulfil(client, [Wish(rng)], rng=rng)
            if not client.open or accounts.over.is_set():
                break
            if rng.random() < 0.1:
                time.sleep(rng.random() / 5)
    finally:
        client.close()


def pipelining(server: Server, accounts: Accounts, rng: random.Random) -> None:
    """Several requests at once."""
    client = Client(server, accounts)
    try:
        for _ in range(rng.randrange(1, 6)):
            wishes = [Wish(rng, small=True) for _ in range(rng.randrange(2, 12))]
            accounts.count("sent", len(wishes))
            fulfil(client, wishes, rng=rng)
            if not client.open or accounts.over.is_set():
                break
    finally:
        client.close()


def once(server: Server, accounts: Accounts, rng: random.Random) -> None:
    """A connection per request."""
    for _ in range(10):
        if accounts.over.is_set():
            break
        with closing(Client(server, accounts)) as client:
            accounts.count("sent")
            fulfil(client, [Wish(rng)], "Connection: close", rng=rng)


def rude(server: Server, accounts: Accounts, rng: random.Random) -> None:
    """Leaves at any moment: in the head, in the body, before and within the answer."""
    with closing(Client(server, accounts)) as client:
        data = Wish(rng).as_sent()
        client.send(data[: rng.randrange(len(data)) if rng.random() < 0.5 else None])
        if rng.random() < 0.5:
            time.sleep(rng.random() / 20)
        if rng.random() < 0.3:
            client.socket.settimeout(rng.random() / 5)
            with suppress(TimeoutError):  # half a request has no answer
                client.more(100)
        if rng.random() < 0.3:  # a reset instead of an end
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        accounts.count("aborted")


def garbage(server: Server, accounts: Accounts, rng: random.Random) -> None:
    """What is no request must be refused, and what follows it not be looked at."""
    with closing(Client(server, accounts)) as client:
        wish = Wish(rng, small=True)
        client.send(b"GET /fast HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + wish.as_sent())
        data = client.to_end()
        if data.count(b"HTTP/1.1 ") > 1 or (data and not data.startswith(b"HTTP/1.1 400 ")):
            accounts.fault(f"garbage was answered with {data[:200]!r}")
        accounts.count("refused")


def slow_reader(server: Server, accounts: Accounts, rng: random.Random) -> None:
    """Takes its time with a large answer, and asks for the next before it has read it."""
    client = Client(server, accounts)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
    wishes = [Wish(rng), Wish(rng, small=True)]
    accounts.count("sent", 2)
    at_once = client.more
    client.more = slow(at_once, rng)  # type: ignore[method-assign]
    try:
        fulfil(client, wishes, rng=rng)
    finally:
        client.more = at_once  # type: ignore[method-assign]
        client.close()


def slow(more: Callable[[int], bytes], rng: random.Random) -> Callable[..., bytes]:
    """The same, with pauses."""

    def read(size: int = 65536) -> bytes:
        if rng.random() < 0.2:
            time.sleep(rng.random() / 100)
        return more(size)

    return read


HABITS = [polite] * 5 + [pipelining] * 2 + [once] * 2 + [rude] * 2 + [slow_reader, garbage]


class Stress:
    """The clients, and what is done to the server meanwhile."""

    def __init__(self, server: Server, seed: int, clients: int, forgive: bool) -> None:
        self.server = server
        self.seed = seed
        self.clients = clients
        self.forgive = forgive  # workers are killed: their requests are lost
        self.accounts = Accounts()
        self.over = self.accounts.over

    def client(self, index: int) -> None:
        """One after the other."""
        rng = random.Random(self.seed * 1000 + index)
        while not self.over.is_set():
            habit = rng.choice(HABITS)
            try:
                habit(self.server, self.accounts, rng)
            except (Lost, Wrong, OSError, ValueError) as error:
                if self.forgive and not isinstance(error, Wrong):
                    self.accounts.count("lost to a kill")
                else:
                    self.accounts.fault(f"{habit.__name__}: {type(error).__name__}: {error}")
            except Exception as error:  # of the client itself: of this run, not of the next test
                self.accounts.fault(f"{habit.__name__}: {error!r}")
                return

    def disturb(self, every: float, act: Callable[[], None]) -> None:
        """Act, again and again."""
        while not self.over.wait(every * random.uniform(0.5, 1.5)):
            try:
                act()
            except ProcessLookupError as error:
                self.accounts.fault(f"the master is gone: {error}")
                return

    def kill_one(self) -> None:
        """End a worker without a word."""
        workers = self.server.workers()
        if workers:
            with suppress(ProcessLookupError):  # it has just gone by itself
                os.kill(random.choice(workers), signal.SIGKILL)

    def run(self, seconds: float, reload_every: float, kill_every: float) -> Accounts:
        """For so long."""
        jobs = [threading.Thread(target=self.client, args=(i,)) for i in range(self.clients)]
        if reload_every:
            act = lambda: self.server.signal(signal.SIGHUP)  # noqa: E731
            jobs.append(threading.Thread(target=self.disturb, args=(reload_every, act)))
        if kill_every:
            jobs.append(threading.Thread(target=self.disturb, args=(kill_every, self.kill_one)))
        for job in jobs:
            job.start()
        time.sleep(seconds)
        self.over.set()
        for job in jobs:
            job.join(PATIENCE_S * 2)
            if job.is_alive():
                self.accounts.fault("a client waits for ever")
        return self.accounts


def check_access_log(path: Path, accounts: Accounts) -> None:
    """One line for each request that was answered, and none twice."""
    lines = Counter(int(n) for n in re.findall(r"[?&]id=(\d+)", path.read_text()))
    accounts.faults += [f"request {n} has {c} access lines" for n, c in lines.items() if c > 1]
    missing = accounts.whole - set(lines)
    if missing:
        accounts.faults.append(f"{len(missing)} answered requests have no access line")


def stress(
    seconds: float,
    *,
    seed: int = 1,
    clients: int = 12,
    reload_every: float = 0,
    kill_every: float = 0,
    **options: object,
) -> Accounts:
    """Start a server, stress it, stop it, and say what was found."""
    forgive = kill_every > 0
    options = {"access_logfile": "access.log", "log_level": "info"} | options
    with Server("mix:application", expect_deaths=forgive, **options) as server:  # type: ignore
        accounts = Stress(server, seed, clients, forgive).run(seconds, reload_every, kill_every)
        try:
            accounts.counts["exit status"] = server.stop()
        except AssertionError as error:
            accounts.fault(str(error)[:500])
        accounts.faults += server.problems()
        if not forgive:
            check_access_log(server.dir / "access.log", accounts)
        if accounts.faults:
            keep = Path(f"/tmp/stress-{os.getpid()}.log")
            keep.write_text(server.log)
            accounts.faults.append(f"the log is {keep}")
    return accounts


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in [
        ("seconds", 10.0),
        ("seed", 1),
        ("clients", 12),
        ("workers", 2),
        ("threads", 4),
        ("reload-every", 0.0),
        ("kill-every", 0.0),
    ]:
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args()
    accounts = stress(**vars(args))
    print(dict(accounts.counts), f"slowest {accounts.slowest:.2f} s")
    for fault in accounts.faults[:20]:
        print("FAULT", fault)
    sys.exit(bool(accounts.faults))


if __name__ == "__main__":
    main()
