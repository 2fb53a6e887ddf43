"""An application with gevent in its views. MONKEY=1: all of the standard library is patched. $AT_IMPORT
is what it has used before it is forked: the hub, its threads."""

import os

import gevent
import gevent.event
import gevent.pool
from gevent import monkey, socket

if os.environ.get("MONKEY"):
    monkey.patch_all()


def greenlets() -> str:
    """Let greenlets wait for each other and for a socket, with a timer that must not ring."""
    ours, theirs = socket.socketpair()
    arrived = gevent.event.AsyncResult()
    with ours, theirs, gevent.Timeout(30):
        gevent.spawn(lambda: arrived.set(theirs.recv(16)))
        gevent.spawn_later(0.01, ours.sendall, b"by a socket")
        squares = gevent.pool.Pool(4).map(lambda n: (gevent.sleep(0.001), n * n)[1], range(10))
        return f"{sum(squares)} {arrived.get().decode()}"


def thread_pool() -> str:
    """Let a thread of gevent's own pool compute; it wakes the loop through an async watcher."""
    return str(gevent.get_hub().threadpool.apply(sum, [range(100)]))


def timed_out() -> str:
    """Let gevent's timer end a wait."""
    try:
        with gevent.Timeout(0.01):
            gevent.sleep(30)
    except gevent.Timeout:
        return "timed out"
    return "slept"


def joined() -> str:
    """Wait for a greenlet, with a limit that nothing should reach."""
    job = gevent.spawn(os.getpid)
    gevent.joinall([job], timeout=20)
    return f"joined {job.value}"


def resolved() -> str:
    """Let gevent's own threads find a name."""
    with gevent.Timeout(20, TimeoutError):
        return str(len(socket.getaddrinfo("127.0.0.1", 80)) > 0)


VIEWS = {
    "/greenlets": greenlets,
    "/joined": joined,
    "/resolved": resolved,
    "/thread-pool": thread_pool,
    "/timed-out": timed_out,
}
for used in os.environ.get("AT_IMPORT", "").split():
    VIEWS[used]()


def application(environ, start_response):
    """Run the view of the path."""
    text = VIEWS[environ["PATH_INFO"]]().encode()
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text]
