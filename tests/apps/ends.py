"""What an application has that ends, as $ENDS says: made at import, and by the first request of each
worker. / answers with the pid; /in/NAME with what the function NAME says, /load is for the import.

Everything is said in the file `said`, one line each, so that it is known who has said it.
"""

import atexit
import dbm.dumb
import fcntl
import gzip
import io
import multiprocessing
import os
import random
import shelve
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import weakref

import myserver

HERE = os.getcwd()
KEPT = {}  # name: what must not be freed
local = threading.local()
MADE = os.getpid()
FORK = multiprocessing.get_context("fork")  # not the default since 3.14


def say(text):
    """One line, in one piece."""
    with open(f"{HERE}/said", "ab", buffering=0) as file:
        file.write(f"{text} {os.getpid()}\n".encode())


class Ends:
    """Says that it ends."""

    def __init__(self, name, inner=None):
        self.name, self.inner = name, inner

    def __del__(self):
        if self.inner is not None:
            self.inner.write(f"end of {self.name}\n")
        say(f"del {self.name}")


class Thing:
    """Something that a finalizer watches."""


def files(when):
    """Files with something in their buffer."""
    KEPT[f"text {when}"] = file = open(f"{HERE}/text-{when}-{os.getpid()}", "a")
    file.write("line\n")
    KEPT[f"gzip {when}"] = file = gzip.open(f"{HERE}/gzip-{when}-{os.getpid()}", "at")
    file.write("line\n")
    KEPT[f"named {when}"] = tempfile.NamedTemporaryFile(dir=HERE, prefix=f"named-{when}-")
    KEPT[f"directory {when}"] = tempfile.TemporaryDirectory(dir=HERE, prefix=f"directory-{when}-")
    database = dbm.dumb.open(f"{HERE}/shelf-{when}-{os.getpid()}")
    KEPT[f"shelf {when}"] = shelf = shelve.Shelf(database, writeback=True)
    shelf["key"] = []
    shelf["key"].append("line")


def databases(when):
    """Two that only their last reference closes; one is made by another thread."""
    threading.Thread(target=sqlite, args=(when,)).start()
    try:
        import dbm.ndbm
    except ImportError:
        return
    KEPT[f"ndbm {when}"] = database = dbm.ndbm.open(f"{HERE}/ndbm-{when}-{os.getpid()}", "c")
    database["key"] = "line"


def sqlite(when):
    """It writes into a second file, until it is closed."""
    KEPT[f"sqlite {when}"] = database = sqlite3.connect(f"{HERE}/sqlite-{when}-{os.getpid()}")
    database.execute("PRAGMA journal_mode = wal")
    with database:
        database.execute("CREATE TABLE line AS SELECT 1")
    say(f"sqlite {when}")


def objects(when):
    """Objects that do something when they are freed."""
    thing = KEPT[f"thing {when}"] = Thing()
    weakref.finalize(thing, say, f"finalize {when}")
    atexit.register(say, f"atexit {when}")
    globals()[f"global_{when}"] = Ends(f"global {when}")
    setattr(local, when, Ends(f"local {when}"))
    KEPT[f"cycle {when}"] = cycle = Ends(f"cycle {when}")
    cycle.self = cycle
    KEPT[f"inner {when}"] = inner = gzip.open(f"{HERE}/journal-{when}-{os.getpid()}", "wt")
    KEPT[f"outer {when}"] = Ends(f"outer {when}", inner)
    KEPT[f"generator {when}"] = generator = steps(when)
    next(generator)


def steps(when):
    """Has something to do at its end."""
    try:
        yield
    finally:
        say(f"finally {when}")


def work(when):
    """A thread that the end waits for."""
    wait_for_file("go")
    say(f"thread {when}")


def threads(when):
    """A thread that is no daemon and ends when the others do."""
    threading.Thread(target=work, args=(when,)).start()


def stdout(when):
    """The standard output in another encoding, as old programs have it."""
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", line_buffering=False)
    sys.stdout.write(f"wrapped {when}\n")


def serve_child(pipe):
    """A child: answers until its parent ends it."""
    while True:
        pipe.send((os.getpid(), pipe.recv()))


def child(when):
    """A child of multiprocessing, with a pipe."""
    KEPT["pipe"], theirs = FORK.Pipe()
    process = FORK.Process(target=serve_child, args=(theirs,), daemon=True)
    process.start()
    KEPT["child"] = process
    say(f"child {when} {process.pid}")


def served(when):
    """A child of multiprocessing's server of forks, the default of 3.14."""
    context = multiprocessing.get_context("forkserver")
    seconds = 0 if when == "request" else 600
    process = context.Process(target=time.sleep, args=(seconds,), daemon=True)
    process.start()
    say(f"served {when} {process.pid}")
    if when == "request":
        process.join()


def manager(when):
    """A manager, and a dictionary that all workers share."""
    KEPT["manager"] = FORK.Manager()
    KEPT["shared"] = KEPT["manager"].dict()
    KEPT["shared"]["count"] = 0


def pool(when):
    """A pool of processes."""
    KEPT["pool"] = FORK.Pool(1)
    KEPT["pool"].apply(os.getpid)


def consumer(when):
    """A queue between processes with a thread behind it, as loguru has with enqueue=True."""
    queue = KEPT["queue"] = FORK.SimpleQueue()

    def consume():
        while (text := queue.get()) is not None:
            say(f"consumed {text}")

    thread = threading.Thread(target=consume, daemon=True)
    thread.start()
    if when == "import":
        owner = os.getpid()

        def stop():
            if os.getpid() == owner:
                queue.put(None)
                thread.join()
                say("consumer stopped")

        atexit.register(stop)


def fed(when):
    """A queue whose thread has sent something, and another that reads it."""
    queue = KEPT["fed"] = FORK.Queue()
    queue.put(os.getpid())

    def consume():
        while True:
            say(f"fed {queue.get()}")

    threading.Thread(target=consume, daemon=True).start()


def seeded(when):
    """Random numbers that are known."""
    random.seed(1)


def handler(when):
    """A handler of SIGTERM, and one of a signal that is not the server's."""
    signal.signal(signal.SIGTERM, lambda *_: say("handled SIGTERM"))
    signal.signal(signal.SIGUSR1, lambda *_: say("handled SIGUSR1"))


def exits(when):
    """Ends the process at its end, in a way of its own."""
    atexit.register(os.kill, os.getpid(), signal.SIGKILL) if when == "request" else None


def slow(when):
    """Takes a while at the end."""
    atexit.register(lambda: (say(f"slow {when}"), wait_for_file("go")))


def wait_for_file(name):
    """Until the test makes the file."""
    while not os.path.exists(f"{HERE}/{name}"):
        time.sleep(0.01)


def hangs(when):
    """Never ends."""
    atexit.register(lambda: hang())


def hang():
    """For the stack."""
    say("hangs")
    time.sleep(600)


def port(when):
    """Answers on a port, as an exporter of metrics does."""
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers with the pid."""

        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(str(os.getpid()).encode())

        def log_message(self, *args):
            """Nothing."""

    server = http.server.HTTPServer(("127.0.0.1", int(os.environ["ENDS_PORT"])), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def exporter(when):
    """The same by the library that many use, where the error has another one around it."""
    import prometheus_client

    try:
        prometheus_client.start_http_server(int(os.environ["ENDS_PORT"]), addr="127.0.0.1")
    except OSError as error:
        raise ImportError("no metrics") from error


def lock(when):
    """Only one process may have loaded this, as its author thinks."""
    KEPT["lock"] = open(f"{HERE}/lock", "w")
    fcntl.flock(KEPT["lock"], fcntl.LOCK_EX | fcntl.LOCK_NB)


def kept_lines(when):
    """Lines of a log that wait for more of them."""
    import logging.handlers

    target = logging.FileHandler(f"{HERE}/kept.log")
    handler = logging.handlers.MemoryHandler(100, target=target)
    logging.getLogger("kept").addHandler(handler)
    logging.getLogger("kept").warning("line of the %s", when)


def fails(when):
    """The import fails, with all that was made before."""
    if when == "import" and os.path.exists(f"{HERE}/fail"):
        raise RuntimeError("the import fails")


def broken(when):
    """No worker begins."""
    myserver.postfork(lambda: sys.exit("broken")) if when == "import" else None


def make(when):
    """All that $ENDS says."""
    for what in os.environ["ENDS"].split():
        name, _, only = what.partition("@")
        if only in ("", when):
            globals()[name](when)


def children():
    """The table of multiprocessing."""
    return str(multiprocessing.active_children())


def directory():
    """Whether that of the import is there."""
    return str(os.path.isdir(KEPT["directory import"].name))


def ask():
    """The child of the import."""
    KEPT["pipe"].send("question")
    return str(KEPT["pipe"].recv())


def count():
    """In the dictionary that all share; whose connection this worker alone has."""
    KEPT["shared"]["count"] += 1
    return str(KEPT["shared"]["count"])


def own():
    """What this worker has put into the dictionary, many times; whether it is there."""
    mine = threading.get_native_id()
    KEPT["shared"][mine] = mine
    return str(all(KEPT["shared"][mine] == mine for _ in range(20)))


def enqueue():
    """For the thread of the mold."""
    KEPT["queue"].put(f"from {os.getpid()}")
    return ""


def feed():
    """For the other thread of the mold."""
    KEPT["fed"].put(os.getpid())
    return str(os.getpid())


def write():
    """Into the files of the import."""
    KEPT["text import"].write(f"request {os.getpid()}\n")
    return str(os.getpid())


def rolled():
    """Who says a random number, and that."""
    return f"{os.getpid()} {random.random()}"


make("import")
begun = False


def application(environ, start_response):
    """See above."""
    global begun
    if not begun and os.environ.get("ENDS_LAZY", "1") == "1":
        begun = True
        make("request")
    name = environ["PATH_INFO"].removeprefix("/in/")
    text = globals()[name]() if name != "/" else str(os.getpid())
    body = text.encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
