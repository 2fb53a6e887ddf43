"""What the server does in Python when it starts: paths, import, forks, tracebacks.

Called by the C side once per load; applications never import this module.
"""

import faulthandler
import gc
import importlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType, ModuleType, TracebackType


_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE
_FORMS = "write MODULE[:CALLABLE] or the path of a .py file"


class LoadError(Exception):
    """The application was found, and is not one."""


class WarmupError(Exception):
    """The warm-up has left something that workers must not share."""


class ReforkError(Exception):
    """A worker has something that keeps it from being the next mold."""


def prepare(pythonpath: list[str]) -> None:
    """Puts the working directory and `pythonpath` (first entry first) ahead on sys.path."""
    sys.path[:0] = [os.path.abspath(entry) for entry in pythonpath] + [os.getcwd()]


def check_interpreter(virtualenv: str, library: str) -> str | None:
    """Says why the running library cannot serve `virtualenv` (a directory), or None.

    `library` is the file libpython was loaded from. A virtualenv made by another build of the
    same version imports, and fails later in extension modules; so the builds are compared here.
    """
    import sysconfig

    libdir = sysconfig.get_config_var("LIBDIR")
    if not virtualenv or not libdir:
        return None
    theirs = os.path.realpath(os.path.join(libdir, sysconfig.get_config_var("INSTSONAME") or ""))
    if theirs == os.path.realpath(library) or not os.path.exists(theirs):
        return None
    return (
        f"the virtualenv {virtualenv} was made by the Python in {sys.base_prefix}, but this program "
        f"uses {library}: make the virtualenv with that Python, or build the program with "
        f"PYTHON={sys.base_prefix}/bin/python3"
    )


def load(app: str) -> Callable:
    """Imports `app`: "module" or the path of a .py file, with ":callable" or ":factory()" behind it.

    Returns the WSGI callable. Raises whatever the import or the factory raises, or LoadError.
    """
    release_collector = _hold_collector()
    _watch_threads()
    target, _, name = app.partition(":")
    name = name or "application"
    module = _load_file(target) if target.endswith(".py") else _load_module(target)
    found: object = module
    for part in name.removesuffix("()").split("."):
        if not hasattr(found, part):
            raise LoadError(_no_callable(target, name, module))
        found = getattr(found, part)
    if not callable(found):
        raise LoadError(f"{target}:{name} is a {type(found).__name__}, and cannot be called")
    if name.endswith("()"):
        found = found()
        if not callable(found):
            raise LoadError(
                f"{target}:{name} returns a {type(found).__name__}, which cannot be called"
            )
    if _is_coroutine_function(found) or _is_coroutine_function(type(found).__call__):
        raise LoadError(
            f"{target}:{name} is an ASGI application: name the WSGI one, such as mysite.wsgi"
        )
    gc.freeze()  # the warm-up collects its own litter, without looking at what was loaded
    release_collector()
    return found


def _hold_collector() -> Callable[[], None]:
    """Keeps the collector off until the returned function is called: what is loaded stays, and
    collections would only look at it again and again. Then it is on or off as the application has
    asked for meanwhile.
    """
    enable, disable, isenabled = gc.enable, gc.disable, gc.isenabled
    is_held, is_wanted = True, isenabled()

    def want(on: bool) -> None:
        nonlocal is_wanted
        is_wanted = on
        if not is_held:  # called by a name that the application has imported
            (enable if on else disable)()

    def release() -> None:
        nonlocal is_held
        # Only those that nobody has wrapped meanwhile.
        for name, original in originals.items():
            if getattr(gc, name) is ours[name]:
                setattr(gc, name, original)
        is_held = False
        want(is_wanted)

    originals = {"enable": enable, "disable": disable, "isenabled": isenabled}
    ours: dict[str, Callable] = {
        "enable": lambda: want(True),
        "disable": lambda: want(False),
        "isenabled": lambda: is_wanted if is_held else isenabled(),
    }
    for name, replacement in ours.items():
        setattr(gc, name, replacement)
    disable()
    return release


def _is_coroutine_function(function: object) -> bool:
    """As inspect has it, which costs a megabyte to import."""
    code = getattr(function, "__code__", None)
    return code is not None and bool(getattr(code, "co_flags", 0) & _CO_COROUTINE)


def _no_callable(target: str, name: str, module: ModuleType) -> str:
    """Why `module`, which was found, has no application of this name."""
    if "(" in name.removesuffix("()"):
        return f"{target}:{name}: a factory is called without arguments: write {target}:NAME()"
    is_package = hasattr(module, "__path__")
    if name == "application" and is_package and _find(f"{target}.wsgi"):
        return f"{target} is a package without {name!r}: did you mean {target}.wsgi"
    if is_package and getattr(module, "__file__", None) is None:
        return f"{target} is a directory, and no module: {_FORMS}"
    names = [name for name in ("app", "wsgi") if callable(getattr(module, name, None))]
    names += ["create_app()"] if callable(getattr(module, "create_app", None)) else []
    hint = f" (it has {', '.join(names)})" if names else ""
    return f"{target} has no {name!r}: name the WSGI callable as {target}:CALLABLE{hint}"


def _find(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def _load_module(target: str) -> ModuleType:
    if "/" in target or not all(target.split(".")):
        raise LoadError(f"{target!r} is not the name of a module: {_FORMS}")
    try:
        return importlib.import_module(target)
    except ModuleNotFoundError as error:
        # What else is missing is the application's affair.
        if error.name is None or not f"{target}.".startswith(f"{error.name}."):
            raise
        missing = error.name
    raise LoadError(_no_module(target, missing))


def _no_module(target: str, missing: str) -> str:
    """Why `target` cannot be imported, of which `missing` is the first part that there is not."""
    above, _, last = missing.rpartition(".")
    if not above:
        return (
            f"there is no {last}.py or {last}/ in {os.getcwd()} or on pythonpath: name its directory "
            f"with --chdir or --pythonpath"
        )
    package = sys.modules.get(above)
    if missing == target and callable(getattr(package, last, None)):
        return f"there is no module {target}: did you mean {above}:{last}"
    places = list(getattr(package, "__path__", []))
    if not places:
        return f"there is no module {missing}: {above} is a module, and no package"
    return f"there is no {last}.py or {last}/ in {places[0]}"


def _load_file(path: str) -> ModuleType:
    """Imports a .py file under its dotted name below the nearest directory on sys.path."""
    path = os.path.abspath(path)
    if not os.path.exists(path):
        raise LoadError(f"there is no file {path}")
    directory, filename = os.path.split(path)
    parts = [filename.removesuffix(".py")]
    while os.path.exists(os.path.join(directory, "__init__.py")):
        directory, package = os.path.split(directory)
        parts.insert(0, package)
    # A Django project: mysite/wsgi.py without __init__.py still means "mysite.wsgi".
    if directory not in sys.path:
        sys.path.insert(0, directory)
    return importlib.import_module(".".join(parts))


def describe(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> str:
    """The traceback as text, ending without a newline; without our own frames at its top."""
    while trace and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")


def _is_ours(filename: str) -> bool:
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib")


def name_thread(name: str) -> None:
    """Names the calling thread, for logs and debuggers."""
    threading.current_thread().name = name


def default_host() -> str:
    """The Host for warm-up requests that name none: one that Django accepts, else localhost."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    try:
        allowed = list(settings.ALLOWED_HOSTS) if settings is not None else []
    except Exception:
        return "localhost"
    return next((host.lstrip(".") for host in allowed if host and "*" not in host), "localhost")


# --- before the fork -----------------------------------------------------------------------------

_is_loading = True
_on_loaded: list[Callable[[], None]] = []
_thread_origins: dict[threading.Thread, str] = {}
_modules_at_fork: set[str] = set()
_is_collector_on = True  # as the application wants it


def _watch_threads() -> None:
    """Remembers which module starts a thread while the application loads, to name it later."""
    start = threading.Thread.start

    def watched_start(self: threading.Thread) -> None:
        if _is_loading:
            _thread_origins[self] = _starter(sys._getframe(1))
        start(self)

    def unwatch() -> None:
        # Only if nobody has wrapped it meanwhile, as monitoring does: then it stays, and is idle.
        if threading.Thread.start is watched_start:
            threading.Thread.start = start  # type: ignore[method-assign]

    threading.Thread.start = watched_start  # type: ignore[method-assign]
    _on_loaded.append(unwatch)


def _starter(frame: FrameType | None) -> str:
    """The module that starts a thread, not the one that does it on its behalf."""
    helpers = ("threading", "concurrent")
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in helpers:
        frame = frame.f_back
    return frame.f_globals.get("__name__", "?") if frame else "?"


def _end_loading() -> None:
    """Threads that start from now on are not ours to name."""
    global _is_loading
    _is_loading = False
    while _on_loaded:
        _on_loaded.pop()()
    _thread_origins.clear()


def before_fork(
    sockets_before: list[int], sockets_loaded: list[int], has_served: bool
) -> list[str]:
    """Leaves the mold in a state that workers can share; returns warnings for the log.

    Runs the application's prefork hooks, closes connections that workers must not share, names
    threads and sockets that will not survive. A connection that the warm-up has opened and that is
    still open is an error: what two processes write to the same one is broken for both. `has_served`:
    the process was a worker, and gives up being a mold rather than lose a thread.
    """
    import myserver

    global _is_collector_on
    for hook in myserver._prefork_hooks:
        hook()
    close_connections()
    if has_served:
        gc.collect()  # what the threads that have ended kept for themselves: connections, in cycles
    left = _find_connections(sockets_loaded)
    if has_served:
        _refuse_refork(left)
    elif left:
        raise WarmupError(
            f"prewarm has opened a connection that all workers would share, to {left}: close it in a "
            f"function decorated with @myserver.prefork, or warm up with other paths"
        )
    # A worker's threads have ended, though `threading` may still know them.
    warnings = [] if has_served else _find_threads()
    warnings += _find_sockets(set(sockets_before))
    _end_loading()
    _revive_executors()
    _modules_at_fork.update(sys.modules)
    gc.collect()  # also empties the interpreter's free lists, before holes are filled
    _is_collector_on = gc.isenabled()
    gc.disable()
    gc.unfreeze()  # all objects are looked at once more, to be made immortal
    return warnings


def _refuse_refork(connections: str) -> None:
    """Raises ReforkError if the process has open connections, or more than one thread."""
    if connections:
        raise ReforkError(
            f"no refork: requests have left a connection open, to {connections}: close it in a "
            f"function decorated with @myserver.prefork"
        )
    threads = _other_threads()
    if threads:
        raise ReforkError(
            f"no refork: the application has threads of its own ({', '.join(threads)}): end them in a "
            f"function decorated with @myserver.prefork and start them in @myserver.postfork"
        )


def _other_threads() -> list[str]:
    """Names of all threads but the caller's, also of those that Python does not know."""
    names = {t.native_id: t.name for t in threading.enumerate()}
    for _ in range(1000):  # a thread that was joined a moment ago may still be listed
        tids = [int(name) for name in os.listdir("/proc/self/task") if int(name) != os.getpid()]
        if not tids:
            return []
        time.sleep(0.001)
    return [names.get(tid, f"thread {tid}") for tid in tids]


def freeze() -> None:
    """Moves every object out of the collector's sight, which would write to each of them, and ends
    its rest since before_fork.
    """
    gc.freeze()
    if _is_collector_on:
        gc.enable()


def after_fork() -> None:
    """In a worker: runs the application's postfork hooks."""
    import myserver

    _end_loading()  # without preload nobody has done so
    for hook in myserver._postfork_hooks:
        hook()


def watch(fd: int, number: int) -> type[BaseException]:
    """Lets signal `number` write all stacks to `fd`; returns what interrupts a late request."""
    import myserver

    faulthandler.register(number, file=fd, all_threads=True, chain=False)
    return myserver.RequestTimeout


def new_modules() -> str:
    """Names of modules imported since the fork or the last call, as text; "" without any."""
    names = [name for name in sys.modules.copy() if name not in _modules_at_fork]
    _modules_at_fork.update(names)
    return ", ".join(names)


# Of module, class and method: those that connect again by themselves.
_CLIENTS = (
    ("redis.connection", "ConnectionPool", "disconnect"),
    ("pymemcache.client.base", "Client", "close"),
    ("pylibmc", "Client", "disconnect_all"),
    ("memcache", "Client", "disconnect_all"),
)


def close_connections() -> None:
    """Database and cache connections: on the server's side too, before anybody inherits them."""
    for name, close in (
        ("django.db", _close_django_databases),
        ("django.core.cache", _close_django_caches),
    ):
        if name in sys.modules:
            close(sys.modules[name])
    for name, kind, method in _CLIENTS:
        if name in sys.modules:
            for client in _instances(getattr(sys.modules[name], kind)):
                getattr(client, method)()


def _close_django_databases(module: ModuleType) -> None:
    for connection in module.connections.all(initialized_only=True):
        connection.close()
        if hasattr(connection, "close_pool"):
            connection.close_pool()


def _close_django_caches(module: ModuleType) -> None:
    for cache in module.caches.all(initialized_only=True):
        client = getattr(cache, "_cache", None)
        for name in ("disconnect_all", "close"):  # pymemcache, pylibmc and python-memcached
            if callable(getattr(client, name, None)):
                getattr(client, name)()
                break
        cache.close()


def _instances(kind: type) -> list:
    """Every object of a type. isinstance() would ask proxies for their class, and wake them."""
    gc.unfreeze()
    found = [candidate for candidate in gc.get_objects() if issubclass(type(candidate), kind)]
    gc.freeze()
    return found


def _find_threads() -> list[str]:
    """A warning for each thread but the main one: threads do not exist behind a fork.

    Not for those of an idle ThreadPoolExecutor, which starts new ones (_revive_executors).
    """
    worker = getattr(sys.modules.get("concurrent.futures.thread"), "_worker", None)
    frames = sys._current_frames()

    def waits_for_work(thread: threading.Thread) -> bool:
        frame = frames.get(thread.ident or 0)
        return bool(worker and frame and frame.f_code is worker.__code__)

    return [
        f"thread {thread.name!r} started by {_thread_origins.get(thread, '?')} will not exist in the "
        f"workers: start it in a function decorated with @myserver.postfork"
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not waits_for_work(thread)
    ]


def open_sockets() -> list[int]:
    """Descriptors of this process that are sockets."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.append(int(name))
        except OSError:
            continue
    return found


def warmup_leftovers(loaded: list[int]) -> str:
    """Connections that warm-up requests have opened and left open, as text; "" without any.

    For a trial in a process that is thrown away: closes what it can, then asks the application's
    prefork hooks. `loaded` is what open_sockets() said when the application was loaded.
    """
    import myserver

    close_connections()
    left = _find_connections(loaded)
    if left:
        for hook in myserver._prefork_hooks:
            hook()
        left = _find_connections(loaded)
    return left


def _find_connections(loaded: list[int]) -> str:
    return ", ".join(
        f"{_peer_of(fd)} (descriptor {fd})"
        for fd in open_sockets()
        if fd not in loaded and _is_connection(fd)
    )


def _is_connection(fd: int) -> bool:
    import socket

    with socket.socket(fileno=os.dup(fd)) as copy:
        try:
            return copy.type == socket.SOCK_STREAM and copy.getpeername() is not None
        except OSError:
            return False


def _find_sockets(before: set[int]) -> list[str]:
    """A warning for each socket that the application has opened and left open."""
    return [
        f"a socket to {_peer_of(fd)} (descriptor {fd}) is open: all workers would share it; close it in "
        f"a function decorated with @myserver.prefork, or open it in @myserver.postfork"
        for fd in open_sockets()
        if fd not in before
    ]


def _peer_of(fd: int) -> str:
    import socket

    with socket.socket(fileno=os.dup(fd)) as copy:
        try:
            return str(copy.getpeername() or "its pair")
        except OSError:
            return f"nobody (bound to {copy.getsockname() or 'nothing'})"


def _revive_executors() -> None:
    """Lets a ThreadPoolExecutor that was used before the fork work behind it.

    Its threads are gone there, but it counts them as idle and would wait for them for ever.
    """
    module = sys.modules.get("concurrent.futures.thread")
    if module is None:
        return
    executors = _instances(module.ThreadPoolExecutor)

    def forget_threads() -> None:
        for executor in executors:
            executor._threads.clear()
            executor._idle_semaphore = threading.Semaphore(0)
        module._threads_queues.clear()

    if executors:
        os.register_at_fork(after_in_child=forget_threads)


def stop() -> None:
    """Waits for the application's non-daemon threads, then runs its atexit functions."""
    import atexit

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
