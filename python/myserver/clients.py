"""What of well-known libraries must not be shared by processes: closed in the mold, or made anew in
each worker.

Every call into such a library is guarded: its failure is a warning, never the end of a start.
Called by the C side and by fork.py; applications never import this module.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import _myserver

# Module, class, and how a process lets go of what an object of it holds open.
_CLOSED = (
    ("redis.connection", "ConnectionPool", lambda pool: pool.disconnect()),
    ("valkey.connection", "ConnectionPool", lambda pool: pool.disconnect()),
    # requests, boto3, the clients of Elasticsearch and many others have pools of one of these two.
    ("urllib3.connectionpool", "HTTPConnectionPool", lambda pool: _close_idle(pool)),
    ("httpcore", "ConnectionPool", lambda pool: _close_idle_httpcore(pool)),
    ("pymemcache.client.base", "Client", lambda client: client.close()),
    ("pylibmc", "Client", lambda client: client.disconnect_all()),
    ("memcache", "Client", lambda client: client.disconnect_all()),
    ("sqlalchemy.engine.base", "Engine", lambda engine: _dispose(engine)),
    ("multiprocessing.util", "ForkAwareLocal", lambda local: local.__dict__.clear()),
    ("logging.handlers", "BufferingHandler", lambda handler: handler.flush()),
)

# The same for what each worker makes anew.
_RENEWED = (
    ("concurrent.futures.thread", "ThreadPoolExecutor", lambda pool: _forget_threads(pool)),
    ("concurrent.futures.process", "ProcessPoolExecutor", lambda pool: _renew_processes(pool)),
    ("multiprocessing.pool", "Pool", lambda pool: _renew_pool(pool)),
    ("asyncio.selector_events", "BaseSelectorEventLoop", lambda loop: _renew_loop(loop)),
    ("gevent.hub", "Hub", lambda _hub: sys.modules["gevent.hub"].reinit()),  # of this thread
    ("http.client", "HTTPConnection", lambda connection: connection.close()),
    ("sqlalchemy.engine.base", "Engine", lambda engine: _forget_connections(engine)),
    ("uvloop.loop", "Loop", lambda loop: _renew_uvloop(loop)),
)

_Entry = tuple[str, str, Callable[[Any], object]]

_QUEUES: tuple[_Entry, ...] = (
    ("multiprocessing.queues", "Queue", id),
    ("multiprocessing.queues", "SimpleQueue", id),
    ("concurrent.futures.process", "_ThreadWakeup", id),
)

_to_renew: list[tuple[str, Callable[[Any], object], Any]] = []


def close_connections() -> list[str]:
    """Closes connections to databases and caches: on the server's side too, before anybody inherits
    them. Returns warnings.
    """
    warnings: list[str] = []
    _guard(warnings, "Django's databases", _close_django_databases)
    _guard(warnings, "Django's caches", _close_django_caches)
    for name, close, found in _known(_CLOSED):
        _guard(warnings, name, close, found)
    return warnings


def find_renewed() -> None:
    """In the mold: finds what renew() makes anew in a worker."""
    _to_renew[:] = _known(_RENEWED)


def renew() -> list[str]:
    """In a worker: makes anew what find_renewed() has found. Returns warnings."""
    warnings: list[str] = []
    for name, renew_one, found in _to_renew:
        _guard(warnings, name, renew_one, found)
    _to_renew.clear()
    return warnings


def end_pools(children: Iterable[int]) -> list[str]:
    """In the mold: ends pools of processes; each worker starts its own. An executor can start others
    in the mold, too, a multiprocessing.Pool cannot: of those, only the ones that have `children` end.
    Returns warnings.
    """
    warnings: list[str] = []
    ours = set(children)
    for name, _renew, pool in _known(_RENEWED[1:2]):
        _guard(warnings, name, _end_executor, pool)
    for name, _renew, pool in _known(_RENEWED[2:3]):
        if ours.intersection(getattr(p, "pid", None) for p in getattr(pool, "_pool", None) or ()):
            _guard(warnings, name, _end_pool, pool)
    return warnings


def trackers() -> set[int]:
    """Processes that multiprocessing starts for itself, and that all processes may use."""
    tracker = getattr(
        sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None
    )
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    return {
        getattr(tracker, "_pid", None) or -1,
        getattr(server, "_forkserver_pid", None) or -1,
    }


def known_descriptors() -> set[int]:
    """Those that renew() makes anew, or that carry no data."""
    found: set[int] = set()
    for _name, _renew, loop in _known(_RENEWED[3:4]):
        names = ("_selector", "_ssock", "_csock")
        files: list[Any] = [getattr(loop, name, None) for name in names]
        found.update(file.fileno() for file in files if hasattr(file, "fileno"))
        found.discard(-1)
        epoll = getattr(getattr(loop, "_selector", None), "_selector", None)
        if epoll is not None and hasattr(epoll, "fileno") and not epoll.closed:
            found.add(epoll.fileno())
    for _name, _renew, hub in _known(_RENEWED[4:5]):
        if hub.loop is not None:
            found.update(_epoll_and_watched(hub.loop.fileno()))
    tracker = getattr(
        sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None
    )
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    found.add(getattr(tracker, "_fd", None) or -1)
    found.add(getattr(server, "_forkserver_alive_fd", None) or -1)
    for _name, _none, child in _known((("multiprocessing.popen_fork", "Popen", id),)):
        found.update(getattr(getattr(child, "finalizer", None), "_args", None) or ())
    return found


def _epoll_and_watched(fd: int | None) -> set[int]:
    """An epoll descriptor, and those by which other threads and timers wake who waits for it."""
    if fd is None:
        return set()
    found = {fd}
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
        watched = [int(line.split()[1]) for line in info if line.startswith("tfd:")]
    for part in watched:
        if os.readlink(f"/proc/self/fd/{part}").startswith(("anon_inode:", "pipe:")):
            found.add(part)
    return found


def queue_descriptors() -> set[int]:
    """Those of multiprocessing's queues, which take turns by locks."""
    ends = (
        getattr(queue, name, None)
        for _name, _none, queue in _known(_QUEUES)
        for name in ("_reader", "_writer")
    )
    return {end.fileno() for end in ends if end is not None and not end.closed}


def _guard(warnings: list[str], name: str, function: Callable[..., object], *args: object) -> None:
    try:
        function(*args)
    except Exception as error:
        warnings.append(f"{name} cannot be made ready for workers: {type(error).__name__}: {error}")


def _known(table: Iterable[_Entry]) -> list[tuple[str, Callable[[Any], object], Any]]:
    """Every object of the table's classes."""
    kinds = []
    for module, name, function in table:
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type):
            kinds.append((kind, f"{module}.{name}", function))
    if not kinds:
        return []
    classes = tuple(kind for kind, _name, _function in kinds)
    gc.unfreeze()
    candidates = _myserver.instances(gc.get_objects(), classes)
    gc.freeze()
    return [
        (name, function, found)
        for kind, name, function in kinds
        for found in candidates
        if issubclass(type(found), kind)
    ]


def _close_django_databases() -> None:
    for connection in _django_handlers("django.db", "connections"):
        connection.close()
        if hasattr(connection, "close_pool"):
            connection.close_pool()


def _close_django_caches() -> None:
    for cache in _django_handlers("django.core.cache", "caches"):
        client = getattr(cache, "_cache", None)
        for name in ("disconnect_all", "close"):  # pymemcache, pylibmc and python-memcached
            if callable(getattr(client, name, None)):
                getattr(client, name)()
                break
        cache.close()


def _django_handlers(module: str, name: str) -> list[Any]:
    """The connections or caches that this thread has used.

    Libraries import these modules where Django is only installed: then there are none.
    """
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    handler = getattr(sys.modules.get(module), name, None)
    if handler is None or not getattr(settings, "configured", False):
        return []
    # all(initialized_only=True), which Django has since 4.1.
    used = handler._connections
    return [getattr(used, alias) for alias in handler if hasattr(used, alias)]


def _close_idle(pool: Any) -> None:
    """Closes the connections of urllib3 that wait in the pool; the next request opens them again."""
    import queue

    waiting = pool.pool
    if waiting is None:  # closed
        return
    found: list[Any] = []
    try:
        while True:
            found.append(waiting.get(block=False))
    except queue.Empty:
        pass
    for connection in reversed(found):
        if connection is not None:
            connection.close()
        waiting.put(connection, block=False)


def _close_idle_httpcore(pool: Any) -> None:
    """The same for httpcore, below httpx: the pool forgets those that are closed."""
    for connection in pool.connections:
        if connection.is_idle():
            connection.close()


def _is_in_memory(engine: Any) -> bool:
    """A database of SQLite that is its connection, and would be lost with it."""
    database = str(engine.url.database or ":memory:")
    return engine.dialect.name == "sqlite" and ("memory" in database)


def _dispose(engine: Any) -> None:
    # Connections of an async driver belong to a loop: workers only forget them.
    if not _is_in_memory(engine) and not getattr(engine.dialect, "is_async", False):
        engine.dispose()


def _forget_connections(engine: Any) -> None:
    """What a thread of the mold has put back into the pool is the mold's."""
    if not _is_in_memory(engine):
        engine.pool = engine.pool.recreate()


def _forget_threads(pool: Any) -> None:
    """Lets a ThreadPoolExecutor that was used before the fork work behind it.

    Its threads are gone there, but it counts them as idle and would wait for them for ever.
    """
    import threading

    pool._threads.clear()
    pool._idle_semaphore = threading.Semaphore(0)
    sys.modules["concurrent.futures.thread"]._threads_queues.clear()


def _end_executor(pool: Any) -> None:
    if pool._processes and not pool._pending_work_items:
        pool.shutdown()
        _renew_processes(pool)


def _end_pool(pool: Any) -> None:
    pool.terminate()
    pool.join()


def _renew_processes(pool: Any) -> None:
    """Its processes start with the next task."""
    sys.modules["concurrent.futures.process"]._threads_wakeups.clear()
    options = {}
    if getattr(pool, "_max_tasks_per_child", None) is not None:
        options["max_tasks_per_child"] = pool._max_tasks_per_child
    # That of the library: a subclass may have one with other arguments.
    sys.modules["concurrent.futures.process"].ProcessPoolExecutor.__init__(
        pool, pool._max_workers, pool._mp_context, pool._initializer, pool._initargs, **options
    )


def _renew_pool(pool: Any) -> None:
    """A pool of processes, or one of threads, which is a subclass."""
    if getattr(pool, "_pool", None) is not None and hasattr(pool, "_maxtasksperchild"):
        sys.modules["multiprocessing.pool"].Pool.__init__(
            pool,
            pool._processes,
            pool._initializer,
            pool._initargs,
            pool._maxtasksperchild,
            context=pool._ctx,
        )


def _renew_loop(loop: Any) -> None:
    """Gives an event loop that does not run an epoll descriptor and a pair to wake it of its own,
    under the same numbers.
    """
    import select
    import socket

    selector: Any = getattr(loop, "_selector", None)
    epoll = getattr(selector, "_selector", None)
    if loop.is_closed() or loop.is_running() or not isinstance(epoll, select.epoll):
        return
    for ours, theirs in zip(socket.socketpair(), (loop._ssock, loop._csock), strict=True):
        with ours:
            ours.setblocking(False)
            os.dup2(ours.fileno(), theirs.fileno(), inheritable=False)
    with select.epoll() as own:
        os.dup2(own.fileno(), epoll.fileno(), inheritable=False)
    for key in selector.get_map().values():
        reads = select.EPOLLIN if key.events & 1 else 0
        epoll.register(key.fd, reads | (select.EPOLLOUT if key.events & 2 else 0))


def _renew_uvloop(loop: Any) -> None:
    """Lets libuv do what a loop needs behind a fork, which uvloop does not ask it for. Without that,
    all workers write into one ring of orders to the kernel, and abort.
    """
    import ctypes

    if loop.is_closed() or loop.is_running():
        return
    uvloop: Any = sys.modules["uvloop.loop"]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    fork = ctypes.CDLL(uvloop.__file__).uv_loop_fork
    fork.argtypes = [ctypes.c_void_p]
    error = fork(pointer(uvloop.libuv_get_loop_t_ptr(loop), None))
    if error:
        raise OSError(-error, os.strerror(-error))
