"""The hooks of the application: the modules that the option `hooks` names, and who is called when.

Called by the C side; applications never import this module. Functions that these modules define
under gunicorn's names and that no decorator of `myserver` has taken are called as gunicorn calls them, with
stand-ins for its server and worker objects.
"""

import logging
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import _myserver
import myserver
from myserver import stacks

_INFO, _WARNING, _ERROR = 1, 2, 3  # levels of the server's log
_PROMETHEUS: Final = "myserver.prometheus"  # a project's own package `myserver` may hide its name

Hook = Callable[..., object]

# gunicorn's hooks that are called here, and what they get.
_TAKEN: Final = {
    "on_starting": ("server",),
    "on_reload": ("server",),
    "when_ready": ("server",),
    "pre_fork": ("server", "worker"),
    "post_fork": ("server", "worker"),
    "post_worker_init": ("worker",),
    "worker_exit": ("server", "worker"),
    "child_exit": ("server", "worker"),
    "on_exit": ("server",),
}
# gunicorn's hooks that are not, and what to do.
_LEFT: Final = {
    "pre_request": "wrap the application in a WSGI middleware",
    "post_request": "wrap the application in a WSGI middleware, or read the access log",
    "worker_int": "a worker that is stopped at once runs no more Python; see child_exit",
    "worker_abort": "a request that passes `timeout` is answered 504, and the log has all stacks",
    "nworkers_changed": "/metrics of the option `control` has the number of workers",
    "pre_exec": "an upgrade (USR2) forks the new server, and the old one goes on until that serves",
    "ssl_context": "TLS is the proxy's",
}

_starting: list[Hook] = []  # at the start of the server
_reloading: list[Hook] = []  # at each reload
_stopping: list[Hook] = []  # at its end
_known = 0  # hooks for the hooks process that the modules have registered
_has_exited = False  # the worker_exit hooks have run in this process


class HookError(Exception):
    """A hook cannot be called."""


class _StandIn:
    """For gunicorn's server or worker object, as far as hooks use them."""

    def __init__(self, role: str, **attributes: object) -> None:
        self._role = role
        vars(self).update(attributes, log=_logger())

    def __getattr__(self, name: str) -> Any:
        names = ", ".join(name for name in vars(self) if not name.startswith("_"))
        raise AttributeError(f"{name!r}: here gunicorn's {self._role} has only {names}")


def _logger() -> logging.Logger:
    logger = logging.getLogger("myserver.hooks")
    if not logger.handlers:
        logger.addHandler(myserver.LogHandler())
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
    return logger


def _server() -> _StandIn:
    return _StandIn("server", pid=os.getppid())


def _worker(number: int, pid: int) -> _StandIn:
    return _StandIn("worker", age=number, pid=pid, ppid=os.getppid())


# --- loading -------------------------------------------------------------------------------------


def load(names: list[str], cause: str) -> None:
    """Imports the modules that the option names, before the application, and takes their hooks.

    `cause` is why there is a new generation: "start", "upgrade" or "reload"; "" where the hooks about
    that are not to be called. Raises what an import or such a hook raises, or HookError.
    """
    from myserver import load as loader

    global _known
    for name in names:
        if name == _PROMETHEUS:
            module = _import_ours(name)
            if cause:
                module.begin(cause)
        else:
            module = loader.load_module(name)
            _take(module, name)
    _known = _count()
    for hook in _reloading if cause == "reload" else _starting if cause else []:
        hook()


def _import_ours(name: str) -> ModuleType:
    import importlib

    return importlib.import_module(f"{myserver.__name__}.{name.partition('.')[2]}")


def _take(module: ModuleType, name: str) -> None:
    """What the module defines under gunicorn's names, unless a decorator has taken it."""
    decorated = [
        hook
        for hooks in (
            myserver._prefork_hooks,
            myserver._postfork_hooks,
            myserver._ready_hooks,
            myserver._exit_hooks,
            myserver._child_hooks,
        )
        for hook in hooks
    ]
    for hook, names in _TAKEN.items():
        function = getattr(module, hook, None)
        if callable(function) and not any(function is other for other in decorated):
            _check_arguments(name, hook, function, names)
            _REGISTER[hook](function)
    for hook, advice in _LEFT.items():
        if callable(getattr(module, hook, None)):
            log(_WARNING, f"{name}: the hook {hook} is not called by this server: {advice}")


def _check_arguments(module: str, hook: str, function: Hook, names: tuple[str, ...]) -> None:
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & 4:  # *arguments
        return
    most = code.co_argcount
    least = most - len(getattr(function, "__defaults__", None) or ())
    if not least <= len(names) <= most:
        raise HookError(
            f"{module}: {hook} is called as gunicorn does, with ({', '.join(names)}), but takes {most} "
            f"argument{'' if most == 1 else 's'}: if it is a hook of this server, decorate it with one of "
            f"myserver.prefork, worker_start, when_ready, worker_exit, child_exit"
        )


def _take_exit(function: Hook) -> None:
    def worker_exit(_reason: str) -> object:
        return function(_server(), _worker(myserver.worker_id(), os.getpid()))

    myserver.worker_exit(_named(worker_exit, function))


def _take_child(function: Hook) -> None:
    def child_exit(number: int, pid: int, _reason: str) -> object:
        return function(_server(), _worker(number, pid))

    myserver.child_exit(_named(child_exit, function))


def _with_server(take: Callable[[Hook], object]) -> Callable[[Hook], object]:
    return lambda function: take(_named(lambda: function(_server()), function))


def _with_worker(take: Callable[[Hook], object]) -> Callable[[Hook], object]:
    def call(function: Hook) -> object:
        return function(_server(), _worker(myserver.worker_id(), os.getpid()))

    return lambda function: take(_named(lambda: call(function), function))


def _named(wrapper: Hook, function: Hook) -> Hook:
    """Lets the wrapper be called in the log what the function is called."""
    wrapper.__module__ = function.__module__
    wrapper.__qualname__ = getattr(function, "__qualname__", type(function).__qualname__)
    return wrapper


_REGISTER: Final[dict[str, Callable[[Hook], object]]] = {
    "on_starting": _with_server(_starting.append),
    "on_reload": _with_server(_reloading.append),
    "when_ready": _with_server(myserver.when_ready),
    "pre_fork": _with_worker(myserver.prefork),
    "post_fork": _with_worker(myserver.worker_start),
    "post_worker_init": lambda function: myserver.worker_start(
        _named(lambda: function(_worker(myserver.worker_id(), os.getpid())), function)
    ),
    "worker_exit": _take_exit,
    "child_exit": _take_child,
    "on_exit": _with_server(_stopping.append),
}


# --- calling -------------------------------------------------------------------------------------


def _count() -> int:
    return len(myserver._ready_hooks) + len(myserver._child_hooks) + len(_stopping)


def are_for_process() -> bool:
    """Whether there are hooks that a process of their own is to run."""
    return _count() > 0


def unheard() -> list[str]:
    """In a worker that has loaded the application itself: warnings about its hooks that are not called."""
    if _count() == _known:
        return []
    return [
        "without preload, functions decorated with myserver.when_ready and myserver.child_exit are called "
        "only if they stand in a module that the option `hooks` names"
    ]


def hint() -> None:
    """Says what a library needs of which the operator may not know."""
    has_directory = "PROMETHEUS_MULTIPROC_DIR" in os.environ
    if has_directory and "prometheus_client" in sys.modules and not myserver._child_hooks:
        log(
            _INFO,
            "prometheus_client runs in its multiprocess mode: with hooks = myserver.prometheus, gauges of "
            "workers that have ended do not stay, and files of earlier runs are removed at the start",
        )


def ready() -> None:
    """In the hooks process: the first worker of the generation serves."""
    _call_all("when_ready", myserver._ready_hooks)


def child_exit(number: int, pid: int, reason: str) -> None:
    """In the hooks process: worker `number`, which was the process `pid`, has ended."""
    _call_all("child_exit", myserver._child_hooks, number, pid, reason)


def stopping() -> None:
    """In the hooks process: the server stops, and the last worker has ended."""
    _call_all("on_exit", _stopping)


def worker_exit(reason: str) -> None:
    """In a worker that has answered all its requests: it ends."""
    global _has_exited
    if not _has_exited:
        _has_exited = True
        _call_all("worker_exit", myserver._exit_hooks, reason)


def begin_worker() -> None:
    """In a worker: it has not ended, whatever the process was before the fork."""
    global _has_exited
    _has_exited = False


def _call_all(kind: str, hooks: list[Any], *arguments: object) -> None:
    for hook in list(hooks):
        try:
            hook(*arguments)
        except BaseException as error:
            name = f"{getattr(hook, '__module__', '?')}.{getattr(hook, '__qualname__', repr(hook))}"
            trace = stacks.describe(type(error), error, error.__traceback__)
            log(_ERROR, f"the {kind} hook {name} has failed", trace)


def log(level: int, text: str, detail: str = "") -> None:
    """One record of the server's log, below it the lines of `detail`."""
    _myserver.log(
        level, text.encode("utf-8", "backslashreplace"), detail.encode("utf-8", "backslashreplace")
    )
