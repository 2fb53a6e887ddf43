"""An application that opens or starts something before the fork: $AT is "import" or the path of the
request that does it, $HAS what."""

from __future__ import annotations

import asyncio
import http.client
import multiprocessing
import multiprocessing.pool
import os
import queue
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TextIO

from told import event

HAS, AT = os.environ.get("HAS", ""), os.environ.get("AT", "import")
PORT = int(os.environ.get("PEER_PORT", "0"))
ECHO = "import sys\nfor line in sys.stdin:\n    print(line, end='', flush=True)"
has: dict[str, Callable[[str], str]] = {}


def connection() -> Callable[[str], str]:
    """A client of HTTP that connects again by itself."""
    client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)

    def ask(word: str) -> str:
        client.request("GET", f"/{word}")
        return client.getresponse().read().decode()

    ask("first")
    return ask


def raw() -> Callable[[str], str]:
    """A client that connects again at the end of its connection."""
    held = [socket.create_connection(("127.0.0.1", PORT), 20)]

    def ask(word: str) -> str:
        for _ in range(2):
            try:
                held[0].sendall(f"GET /{word} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                answer = b""
                while not answer.endswith(word.encode()):
                    piece = held[0].recv(4096)
                    if not piece:
                        raise ConnectionResetError
                    answer += piece
                return answer.partition(b"\r\n\r\n")[2].decode()
            except OSError:
                pass
            held[0].close()
            held[0] = socket.create_connection(("127.0.0.1", PORT), 20)
        return "nothing"

    ask("first")
    return ask


def session() -> Callable[[str], str]:
    """A session of requests, which keeps its connections."""
    import requests

    kept = requests.Session()
    ask = lambda word: kept.get(f"http://127.0.0.1:{PORT}/{word}", timeout=20).text  # noqa: E731
    ask("first")
    return ask


def manager() -> Callable[[str], str]:
    """The same of urllib3, with two connections."""
    import urllib3

    kept = urllib3.PoolManager(maxsize=2, block=True)
    ask = lambda word: kept.request("GET", f"http://127.0.0.1:{PORT}/{word}").data.decode()  # noqa: E731
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(ask, ("first", "second")))
    return ask


def pool_of_one_host() -> Callable[[str], str]:
    """The same of urllib3, as the clients of Elasticsearch have."""
    import urllib3

    kept = urllib3.HTTPConnectionPool("127.0.0.1", PORT, maxsize=1)
    ask = lambda word: kept.request("GET", f"/{word}").data.decode()  # noqa: E731
    ask("first")
    return ask


def httpx_client() -> Callable[[str], str]:
    """The same of httpx."""
    import httpx

    kept = httpx.Client(timeout=20)
    ask = lambda word: kept.get(f"http://127.0.0.1:{PORT}/{word}").text  # noqa: E731
    ask("first")
    return ask


def helper() -> Callable[[str], str]:
    """A process that answers by pipes."""
    child = subprocess.Popen(
        [sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def ask(word: str) -> str:
        print(word, file=child.stdin, flush=True)
        return child.stdout.readline().strip()

    return ask


def helper_by_pair() -> Callable[[str], str]:
    """The same by a socket pair, of which the process has one end."""
    ours, theirs = socket.socketpair()
    with theirs:
        child = subprocess.Popen([sys.executable, "-c", ECHO], stdin=theirs, stdout=theirs)
    KEPT.extend((ours, child))
    return asks_by(ours.makefile("rw"))


def helper_by_terminal() -> Callable[[str], str]:
    """The same by a terminal, as pexpect does."""
    ours, theirs = os.openpty()
    child = subprocess.Popen([sys.executable, "-c", ECHO], stdin=theirs, stdout=theirs)
    os.close(theirs)
    KEPT.append(child)

    def ask(word: str) -> str:
        os.write(ours, f"{word}\n".encode())
        read = b""
        while read.count(b"\n") < 2:  # the terminal's own echo is the first
            read += os.read(ours, 100)
        return read.split()[1].decode()

    return ask


def helper_by_connections() -> Callable[[str], str]:
    """The same by multiprocessing, with one pipe for each direction."""
    fork = multiprocessing.get_context("fork")
    (questions, ask_end), (answer_end, answers) = fork.Pipe(False), fork.Pipe(False)

    def serve() -> None:
        while True:
            answers.send(questions.recv())

    child = fork.Process(target=serve, daemon=True)
    child.start()
    KEPT.append(child)

    def ask(word: str) -> str:
        ask_end.send(word)
        return answer_end.recv()

    return ask


def asks_by(file: TextIO) -> Callable[[str], str]:
    """Question and answer are a line each."""

    def ask(word: str) -> str:
        print(word, file=file, flush=True)
        return file.readline().strip()

    return ask


def updater() -> Callable[[str], str]:
    """The same for a file that may be written, too; opened as careful libraries do."""
    return reader(os.O_RDWR | os.O_NOFOLLOW)


def reader(flags: int = os.O_RDONLY) -> Callable[[str], str]:
    """A file of numbered lines of ten bytes, and nothing that buffers it."""
    with open("numbers", "w") as made:
        made.writelines(f"{n:09}\n" for n in range(1000))
    fd = os.open("numbers", flags)
    file = open(fd, "r+b" if flags else "rb", buffering=0)

    def ask(word: str) -> str:
        file.seek(int(word) % 1000 * 10)
        time.sleep(0.002)  # another process may move the offset meanwhile
        return str(int(file.read(9)))

    return ask


def scratch() -> Callable[[str], str]:
    """A temporary file that is written and read again."""
    file = tempfile.TemporaryFile(buffering=0)

    def ask(word: str) -> str:
        file.seek(0)
        file.truncate()
        file.write(word.encode())
        file.seek(0)
        return file.read().decode()

    return ask


def background() -> Callable[[str], str]:
    """A thread that answers by a queue."""
    tasks: queue.Queue[tuple[str, Future[str]]] = queue.Queue()

    def answer() -> None:
        while True:
            word, future = tasks.get()
            future.set_result(word)

    threading.Thread(target=answer, daemon=True, name="answerer").start()

    def ask(word: str) -> str:
        future: Future[str] = Future()
        tasks.put((word, future))
        try:
            return future.result(1)
        except TimeoutError:
            return "nobody"

    return ask


class Agent:
    """Starts its thread again in another process, with the first thing that it has to do."""

    def __init__(self) -> None:
        self.pid = 0

    def ensure(self) -> None:
        """As agents do."""
        if self.pid != os.getpid():
            self.pid = os.getpid()
            threading.Thread(target=self.run, daemon=True, name="agent").start()

    def run(self) -> None:
        """Has nothing to send."""
        time.sleep(1000)


def agent() -> Callable[[str], str]:
    """One that comes back."""
    one = Agent()
    one.ensure()

    def ask(word: str) -> str:
        one.ensure()
        return word

    return ask


def hooked() -> Callable[[str], str]:
    """A thread that comes back at once."""

    def run() -> None:
        threading.Thread(target=time.sleep, args=(1000,), daemon=True, name="hooked").start()

    run()
    os.register_at_fork(after_in_child=run)
    return lambda word: word


def processes() -> Callable[[str], str]:
    """A pool of processes."""
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    pool.submit(abs, 1).result(20)
    return lambda word: str(pool.submit(abs, -int(word)).result(5))


class OwnExecutor(ProcessPoolExecutor):
    """One with a constructor of its own."""

    def __init__(self) -> None:
        super().__init__(1, multiprocessing.get_context("fork"))


def unused_processes() -> Callable[[str], str]:
    """A pool of processes that nobody has used yet: it has its queues."""
    pool = OwnExecutor()
    return lambda word: str(pool.submit(abs, -int(word)).result(5))


def thread_pool() -> Callable[[str], str]:
    """The older kind of a pool of threads."""
    pool = multiprocessing.pool.ThreadPool(2)
    pool.apply(abs, (1,))
    return lambda word: str(pool.apply_async(abs, (-int(word),)).get(5))


def old_pool() -> Callable[[str], str]:
    """The older kind."""
    pool = multiprocessing.get_context("fork").Pool(1)
    pool.apply(abs, (1,))
    return lambda word: str(pool.apply_async(abs, (-int(word),)).get(5))


def loop(
    make: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> Callable[[str], str]:
    """An event loop that is kept, and woken by another thread."""
    own = make()

    async def wait(word: str) -> str:
        future = own.create_future()
        threading.Timer(0.005, own.call_soon_threadsafe, (future.set_result, word)).start()
        return await asyncio.wait_for(future, 5)

    ask = lambda word: own.run_until_complete(wait(word))  # noqa: E731
    ask("first")
    return ask


def fast_loop() -> Callable[[str], str]:
    """The same of uvloop, which also waits for a connection."""
    import uvloop

    own = uvloop.new_event_loop()

    async def connect() -> None:
        with socket.create_server(("127.0.0.1", 0)) as service:
            service.setblocking(False)
            accepted = asyncio.ensure_future(own.sock_accept(service))
            _, writer = await asyncio.open_connection(*service.getsockname())
            (await accepted)[0].close()
            writer.close()

    wait = loop(lambda: own)

    def ask(word: str) -> str:
        for _ in range(20):
            own.run_until_complete(connect())
        return wait(word)

    ask("first")
    return ask


def epoll() -> Callable[[str], str]:
    """One that nobody knows."""
    own = select.epoll()
    return lambda word: f"{word}{own.closed or ''}"


def datagrams() -> Callable[[str], str]:
    """A client of a service that counts."""
    service, own = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    service.bind(("127.0.0.1", 0))
    own.connect(service.getsockname())
    KEPT.append(service)

    def ask(word: str) -> str:
        own.send(word.encode())
        return word

    return ask


def log() -> Callable[[str], str]:
    """A file that all write to, one line after the other; a line is not written out yet."""
    file = open("lines", "w")
    print("first", file=file)

    def ask(word: str) -> str:
        print(word, file=file, flush=True)
        return word

    return ask


def to_itself(
    send: Callable[[bytes], object], receive: Callable[[int], bytes]
) -> Callable[[str], str]:
    """Passes each word on to itself; another process that has the same would get it."""

    def ask(word: str) -> str:
        send(word.encode().ljust(16))
        time.sleep(0.01)
        return receive(16).decode().strip()

    return ask


def own_pipe() -> Callable[[str], str]:
    """A pipe without another process."""
    output, into = os.pipe()
    return to_itself(lambda data: os.write(into, data), lambda size: os.read(output, size))


def own_pair() -> Callable[[str], str]:
    """The same with sockets."""
    ours, theirs = socket.socketpair()
    KEPT.extend((ours, theirs))
    return to_itself(ours.sendall, theirs.recv)


def own_datagrams() -> Callable[[str], str]:
    """The same with sockets for datagrams, one of which has two numbers."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    second = theirs.dup()
    KEPT.extend((ours, theirs, second))
    return to_itself(ours.send, second.recv)


def waker() -> Callable[[str], str]:
    """What wakes a loop: an eventfd and a pipe that a set of epoll watches."""
    events = os.eventfd(0, os.EFD_NONBLOCK)
    output, into = os.pipe2(os.O_NONBLOCK)
    own = select.epoll()
    own.register(events, select.EPOLLIN)
    own.register(output, select.EPOLLIN)

    def ask(word: str) -> str:
        os.eventfd_write(events, 1)
        os.write(into, b"x")
        time.sleep(0.01)
        woken = own.poll(5)
        os.eventfd_read(events)
        os.read(output, 1)
        still = own.poll(0)
        return word if len(woken) == 2 and not still else f"{woken} {still}"

    return ask


def tokens() -> Callable[[str], str]:
    """A pipe that holds a token for whoever works: one at a time in all processes."""
    output, into = os.pipe()
    os.write(into, b"x")

    def ask(word: str) -> str:
        token = os.read(output, 1)
        with open("working", "x"):
            time.sleep(0.002)
        os.unlink("working")
        os.write(into, token)
        return word

    return ask


KEPT: list[object] = []
KINDS = {
    made.__name__: made
    for made in (agent, background, connection, datagrams, epoll, helper, hooked, log, loop)
}
KINDS |= {made.__name__: made for made in (old_pool, processes, raw, reader, scratch, updater)}
KINDS |= {made.__name__: made for made in (unused_processes, thread_pool, fast_loop)}
KINDS |= {
    made.__name__: made for made in (helper_by_pair, helper_by_terminal, helper_by_connections)
}
KINDS |= {made.__name__: made for made in (own_pipe, own_pair, own_datagrams, waker, tokens)}
KINDS |= {made.__name__: made for made in (session, manager, pool_of_one_host, httpx_client)}


def begin() -> None:
    """Opens or starts it, once."""
    if HAS and "ask" not in has:
        has["ask"] = KINDS[HAS]()


if AT == "import":
    begin()


def application(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Asks it for the word in the path: the answer is the same word."""
    event(f"prewarm {environ.get('myserver.prewarm')}")
    word = environ["PATH_INFO"].rpartition("/")[2] or "0"
    begin()
    answer = has["ask"](word)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{answer} {os.getpid()}".encode()]
