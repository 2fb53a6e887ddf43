"""Lets the server know what a request does: its view, and when it is in the database.

Called by the C side when the application is loaded, where `observe` is on; applications never import
this module. Changes no setting of a project: it puts functions around those of the framework, which
call them and return what they return. A framework that lacks one of them is left as it is.
"""

import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from types import AsyncGeneratorType, FrameType
from typing import Any

import _myserver
from myserver.stacks import in_package, is_of_application


def install() -> None:
    """Puts the hooks into the frameworks that the application has imported."""
    if handlers := sys.modules.get("django.core.handlers.base"):
        _hook_django(handlers)
    if utils := sys.modules.get("django.db.backends.utils"):
        _hook_cursors(utils.CursorWrapper)
    if base := sys.modules.get("django.db.backends.base.base"):
        _watch(base.BaseDatabaseWrapper, _CONNECTION, _OTHER)
        _watch(base.BaseDatabaseWrapper, ("connect",), _CONNECT)
    if flask := sys.modules.get("flask"):
        _hook_flask(flask)
    if default := sys.modules.get("sqlalchemy.engine.default"):
        for dialect in _family(default.DefaultDialect):
            _watch(dialect, _DIALECT, _OTHER)
            _watch(dialect, _DIALECT_STATEMENTS, _DIALECT_STATEMENT)
    if cursor := sys.modules.get("sqlalchemy.engine.cursor"):
        for strategy in _family(cursor.CursorFetchStrategy):
            _watch(strategy, _FETCHES, _RESULT)
    for module, name, kind in _DRIVERS:
        if owner := getattr(sys.modules.get(module), name, None):
            for kin in _family(owner):
                _hook_driver(kin, kind)
    _myserver.set_line_finder(line)


# What talks to the database, besides the statements of cursors.
_CONNECTION: tuple[str, ...] = (
    "_commit",
    "_rollback",
    "_savepoint",
    "_savepoint_rollback",
)
_CONNECTION += ("_savepoint_commit", "_close")
_FETCHES = ("fetchone", "fetchmany", "fetchall")
_DIALECT: tuple[str, ...] = (
    "connect",
    "do_commit",
    "do_rollback",
    "do_begin_twophase",
    "do_prepare_twophase",
)
_DIALECT += ("do_commit_twophase",)
_DIALECT_STATEMENTS = ("do_execute", "do_executemany", "do_execute_no_params")
# enum watched_kind
_OTHER, _FETCH, _STATEMENT, _DIALECT_STATEMENT, _RESULT, _CONNECT, _POSTGRESQL, _MYSQL = range(8)
# The cursors of drivers that are written in Python, for an application that calls them itself.
_DRIVERS = (
    ("psycopg", "Cursor", _POSTGRESQL),
    ("psycopg", "ServerCursor", _POSTGRESQL),
    ("pymysql.cursors", "Cursor", _MYSQL),
    ("MySQLdb.cursors", "BaseCursor", _MYSQL),
)


def _watch(owner: Any, names: tuple[str, ...], kind: int) -> None:
    for name in names:
        if function := vars(owner).get(name):
            setattr(owner, name, _myserver.watch_database(function, kind))


def _family(owner: Any) -> list[Any]:
    """A class and those that are derived from it, each once."""
    kin = (child for heir in owner.__subclasses__() for child in _family(heir))
    return list(dict.fromkeys([owner, *kin]))


# ---- Django ----


def _hook_django(handlers: Any) -> None:
    handler = handlers.BaseHandler
    resolve = vars(handler).get("resolve_request")
    if not resolve:
        return

    @functools.wraps(resolve)
    def resolve_request(self: Any, request: Any) -> Any:
        match = resolve(self, request)
        _myserver.set_view(f"/{match.route.lstrip('^/')}")
        return match

    handler.resolve_request = resolve_request
    _myserver.expect_views()
    if to_sync := vars(handlers).get("async_to_sync"):
        handlers.async_to_sync = _accounted(to_sync)


def _accounted(to_sync: Callable[..., Any]) -> Callable[..., Any]:
    """async_to_sync, which runs a view in another thread, whose costs are those of the request."""

    @functools.wraps(to_sync)
    def async_to_sync(awaitable: Any, *args: Any, **options: Any) -> Any:
        if not callable(awaitable):
            return to_sync(awaitable, *args, **options)

        @functools.wraps(awaitable)
        async def measured(spent: list[int], /, *values: Any, **named: Any) -> Any:
            before = _myserver.thread_costs()
            try:
                return await awaitable(*values, **named)
            finally:
                spent[:] = (
                    now - then for now, then in zip(_myserver.thread_costs(), before, strict=True)
                )

        run = to_sync(measured, *args, **options)

        @functools.wraps(awaitable)
        def call(*values: Any, **named: Any) -> Any:
            spent: list[int] = [0, 0, 0]
            try:
                return run(spent, *values, **named)
            finally:
                _myserver.add_costs(*spent)

        return call

    return async_to_sync


def _hook_cursors(cursor: Any) -> None:
    _watch(cursor, ("_execute", "_executemany"), _STATEMENT)
    _watch(cursor, ("callproc",), _OTHER)
    if "__iter__" in vars(cursor):
        cursor.__iter__ = _rows(cursor.__iter__)
    for name in _FETCHES:
        if name not in vars(cursor):
            setattr(cursor, name, _myserver.watch_database(_fetch(name), _FETCH))


def _fetch(name: str) -> Callable[..., Any]:
    """What CursorWrapper.__getattr__ gives, as a method."""

    def fetch(self: Any, *args: Any) -> Any:
        with self.db.wrap_database_errors:
            return getattr(self.cursor, name)(*args)

    fetch.__name__ = name
    return fetch


def _rows(rows: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """CursorWrapper.__iter__, each of whose rows comes from the database."""
    following = _myserver.watch_database(lambda _cursor, found: next(found, _END), _FETCH)

    @functools.wraps(rows)
    def iterate(self: Any) -> Any:
        found = iter(rows(self))
        while (row := following(self, found)) is not _END:
            yield row

    return iterate


_END = object()


def _hook_driver(cursor: Any, kind: int) -> None:
    _watch(cursor, ("execute", "executemany"), kind)
    _watch(cursor, _FETCHES, _FETCH)


# ---- Flask ----


def _hook_flask(flask: Any) -> None:
    before = vars(flask.Flask).get("preprocess_request")
    if not before:
        return

    @functools.wraps(before)
    def preprocess_request(self: Any, *args: Any) -> Any:
        endpoint = flask.request.endpoint
        if endpoint:
            _myserver.set_view(endpoint)
        return before(self, *args)

    flask.Flask.preprocess_request = preprocess_request
    _myserver.expect_views()


# ---- which line ----

# Packages that stand between an application and its statements, and what of them makes these.
_FRAMEWORKS = ("django/", "flask/", "flask_sqlalchemy/", "sqlalchemy/", "jinja2/", "asgiref/")
_DATABASES = ("django/db/", "django/utils/", "sqlalchemy/", "asgiref/")
# Where a statement of a coroutine runs, on the thread of the request: the coroutine is not below it.
_FROM_COROUTINE = ("asgiref/sync.py", "thread_handler")
# Outside of these is middleware, which did not make what a view has made.
_VIEW_CALLERS = {("django/core/handlers/base.py", "_get_response")}
_VIEW_CALLERS |= {("flask/app.py", "full_dispatch_request")}


def line() -> str:
    """Which line of the application runs on this thread: "file.py:12 in function", and before it the
    line of the template, if that is nearer. Where an installed package has the view: its line; or else
    that of the framework. Empty if there is none.
    """
    frame: FrameType | None = sys._getframe(1)
    template = foreign_template = library = framework = ""
    while frame:
        code = frame.f_code
        if code.co_name == "render_annotated" and not template:
            found, is_ours = _template_line(frame.f_locals.get("self"))
            template = found if is_ours else ""
            foreign_template = foreign_template or found
        if is_of_application(code.co_filename):
            return _joined(template, _shown(os.path.relpath(code.co_filename), frame))
        packaged = in_package(code.co_filename)
        if packaged and not packaged.startswith(_FRAMEWORKS):
            library = library or _shown(packaged, frame)
        elif packaged and not packaged.startswith(_DATABASES):
            framework = framework or _shown(packaged, frame)
        if (packaged, code.co_name) == _FROM_COROUTINE and (found := _coroutine_line(frame)):
            return found
        if (packaged, code.co_name) in _VIEW_CALLERS:
            break
        frame = frame.f_back
    return _joined(template or foreign_template, library or ("" if template else framework))


def _coroutine_line(handler: FrameType) -> str:
    """The line of the application at which a coroutine waits for what runs below `handler`."""
    import asyncio

    loop, work = handler.f_locals.get("loop"), handler.f_locals.get("args") or (None,)
    if loop is None:
        return ""
    lines: list[FrameType] = []
    for task in asyncio.all_tasks(loop):
        frames = list(_waiting(task.get_coro()))
        ours = [f for f in frames if is_of_application(f.f_code.co_filename)]
        if any(f.f_locals.get("child") is work[0] for f in frames[-1:]):
            lines[:0] = [ours[-1]] if ours else []
            break
        lines += ours[-1:]
    return _shown(os.path.relpath(lines[0].f_code.co_filename), lines[0]) if lines else ""


def _waiting(waits: Any) -> Iterator[FrameType]:
    """The frames of a coroutine and of those that it waits for, the innermost last."""
    for _ in range(_DEEPEST):
        kind = next((k for k in ("cr", "ag", "gi") if hasattr(waits, f"{k}_frame")), "")
        if not kind:
            # What __anext__() returns has no attributes; it refers to its generator.
            inner = [o for o in gc.get_referents(waits) if isinstance(o, AsyncGeneratorType)]
            if not inner:
                return
            waits = inner[0]
            continue
        if frame := getattr(waits, f"{kind}_frame"):
            yield frame
        waits = getattr(waits, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
        if waits is None:
            return


_DEEPEST = 64


def _shown(name: str, frame: FrameType) -> str:
    path = frame.f_code.co_filename if name.startswith("..") else name
    return f"{path}:{frame.f_lineno} in {frame.f_code.co_name}"


def _joined(template: str, code: str) -> str:
    return f"{template}, from {code}" if template and code else template or code


def _template_line(node: Any) -> tuple[str, bool]:
    """Of a node of Django's templates, and whether it is the application's; empty: it is none."""
    token, origin = getattr(node, "token", None), getattr(node, "origin", None)
    path = str(getattr(origin, "name", ""))
    if token is None or path.startswith("<"):
        return "", False
    name = getattr(origin, "template_name", None) or path
    return f"{name}:{token.lineno}", is_of_application(path)
