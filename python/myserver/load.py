"""Loads the application: paths, interpreter, import.

Called by the C side once per load; applications never import this module.
"""

import contextlib
import gc
import importlib
import os
import sys
import time
from collections.abc import Callable
from types import ModuleType

import myserver
from myserver import warm

if not hasattr(myserver, "in_server"):  # what is missing is said by the caller
    raise ImportError(f"{myserver.__file__} is not the package of this server")

_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE
_INFO, _WARNING = 1, 2  # levels of the server's log
# How `myserver dev` tells the server: no option, as nobody should be able to leave it on.
DEVELOP = "_MYSERVER_DEVELOP"
_OURS, _ALIAS = "myserver", "myserver_api"
_project: list[str] = []  # the directories that the project's modules are in
_FORMS = "write MODULE[:CALLABLE] or the path of a .py file"


class LoadError(Exception):
    """The application was found, and is not one."""


def prepare(pythonpath: list[str]) -> None:
    """Puts the working directory and `pythonpath` (first entry first) ahead on sys.path."""
    _project[:] = [os.path.abspath(entry) for entry in pythonpath] + [os.getcwd()]
    sys.path[:0] = _project


def load(app: str) -> Callable[..., object]:
    """Imports `app`: "module" or the path of a .py file, with ":callable" or ":factory()" behind it.

    A factory may have arguments that are literals: "shop:create_app('production', debug=False)".

    Returns the WSGI callable. Raises whatever the import or the factory raises, or LoadError.
    """
    release_collector = _hold_collector()
    is_developed = DEVELOP in os.environ
    found = _develop(app) if is_developed else find(app)
    _keep_caches()
    _settle_gevent()
    if not is_developed:
        _warm_up()
    gc.freeze()  # the warm-up collects its own litter, without looking at what was loaded
    release_collector()
    return found


def _develop(app: str) -> Callable[..., object]:
    from myserver import develop

    return develop.load(app, find, os.environ.pop(DEVELOP))


def load_module(target: str) -> ModuleType:
    """Imports `target`, a module or the path of a .py file. Raises as load()."""
    return _load_file(target) if target.endswith(".py") else _load_module(target)


def find(app: str) -> Callable[..., object]:
    """Imports `app` and returns its callable; as load(), without what the server does with it."""
    target, _, name = app.partition(":")
    name = name or "application"
    module = load_module(target)
    found: object = module
    path, parenthesis, _ = name.partition("(")
    for part in path.split("."):
        if not hasattr(found, part):
            raise LoadError(_no_callable(target, path + ("()" if parenthesis else ""), module))
        found = getattr(found, part)
    if not callable(found):
        raise LoadError(f"{target}:{name} is a {type(found).__name__}, and cannot be called")
    if parenthesis:
        positional, named = _arguments(target, name)
        found = found(*positional, **named)
        if not callable(found):
            raise LoadError(
                f"{target}:{name} returns a {type(found).__name__}, which cannot be called"
            )
    if _is_coroutine_function(found) or _is_coroutine_function(type(found).__call__):
        raise LoadError(
            f"{target}:{name} is an ASGI application: name the WSGI one, such as mysite.wsgi"
        )
    return found


def _settle_gevent() -> None:
    """Lets gevent choose its loop now, which it does when a thread needs one for the first time.

    It imports modules for that, and where it has patched the locks of the import, threads that do it at
    once wait for each other for ever (the same without this server). Starts nothing.
    """
    config = getattr(sys.modules.get("gevent"), "config", None)
    for name in ("loop", "threadpool", "resolver"):
        with contextlib.suppress(Exception):  # whoever needs it gets the exception
            getattr(config, name, None)


def _warm_up() -> None:
    import _myserver

    start = time.monotonic()
    done, warnings = warm.structure()
    for warning in warnings:
        _myserver.log(_WARNING, warning.encode("utf-8", "backslashreplace"), b"")
    if done:
        duration = (time.monotonic() - start) * 1000
        said = f"warmed up without a request: {', '.join(done)} of Django in {duration:.0f} ms"
        _myserver.log(_INFO, said.encode(), b"")


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
    ours: dict[str, Callable[[], object]] = {
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


def _arguments(target: str, name: str) -> tuple[list[object], dict[str, object]]:
    """What the factory in `name`, such as "create_app('production', debug=False)", is called with."""
    if name.partition("(")[2] == ")":
        return [], {}
    import ast

    try:
        call = ast.parse(name, mode="eval").body
        if isinstance(call, ast.Call) and isinstance(call.func, (ast.Name, ast.Attribute)):
            positional = [ast.literal_eval(argument) for argument in call.args]
            named = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
            if len(named) == len(call.keywords):  # without **
                return positional, named
    except (SyntaxError, ValueError):
        pass
    raise LoadError(
        f"{target}:{name}: the arguments of a factory are literals: write {target}:NAME('text', key=1)"
    )


def _no_callable(target: str, name: str, module: ModuleType) -> str:
    """Why `module`, which was found, has no application of this name."""
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
    top = target.partition(".")[0]
    _make_way(top, "")
    if top in sys.modules or top in sys.stdlib_module_names:
        for stem in (os.path.join(entry, *target.split(".")) for entry in _project):
            for path in (os.path.join(stem, "__init__.py"), f"{stem}.py"):
                if os.path.exists(path):
                    return _load_file(path)
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
    """Imports a .py file under its dotted name below the nearest directory that is no package.

    Where that name means another file, or a module that libraries import from the standard library,
    the first part gets a `_` behind it: the file is loaded whatever it is called.
    """
    path = os.path.abspath(path)
    if not os.path.exists(path):
        raise LoadError(f"there is no file {path}")
    directory, filename = os.path.split(path)
    stem = filename.removesuffix(".py")
    parts = [stem.replace(".", "_")]
    while os.path.exists(os.path.join(directory, "__init__.py")):
        directory, package = os.path.split(directory)
        parts.insert(0, package)
    if stem == "__init__" and len(parts) > 1:
        parts.pop()
    # A Django project: mysite/wsgi.py without __init__.py still means "mysite.wsgi".
    if directory not in sys.path:
        sys.path.insert(0, directory)
    top = parts[0]
    is_package = directory != os.path.dirname(path)
    top_file = os.path.join(directory, top, "__init__.py") if is_package else path
    _make_way(top, directory)
    if _is_taken(top, top_file):
        _import_theirs(top, directory)
        parts[0] += "_"
        _import_as(parts[0], top_file)
    name = ".".join(parts)
    if name not in sys.modules and stem != parts[-1] and stem != "__init__":
        return _import_as(name, path)
    return importlib.import_module(name)


def _is_taken(name: str, file: str) -> bool:
    """Whether `name` must not, or does not, mean this file."""
    import importlib.util

    if name in sys.modules:
        found = getattr(sys.modules[name], "__file__", None) or ""
    elif name in sys.stdlib_module_names and not file.endswith("__init__.py"):
        return True
    else:
        found = getattr(importlib.util.find_spec(name), "origin", None) or file
    return os.path.realpath(found) != os.path.realpath(file)


def _import_theirs(name: str, directory: str) -> None:
    """Imports the standard library's module of that name, so that nobody gets the project's."""
    path, hidden = sys.path[:], [*_project, directory]
    sys.path[:] = [entry for entry in path if entry not in hidden]
    try:
        if name in sys.stdlib_module_names:
            importlib.import_module(name)
    except ImportError:
        pass  # of another platform, or not installed
    finally:
        sys.path[:] = path


def _import_as(name: str, path: str) -> ModuleType:
    """Imports a file under a name by which nothing would find it."""
    import importlib.util

    parent, _, last = name.rpartition(".")
    above = importlib.import_module(parent) if parent else None
    spec = importlib.util.spec_from_file_location(name, path)
    # A path has both, which the types do not say.
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    if above:
        setattr(above, last, module)
    return sys.modules[name]


def _make_way(top: str, directory: str) -> None:
    """Leaves the name `myserver` to a project that has a module of its own called so, be it the
    application itself: its first name is `top`, and it lies in `directory`.

    Ours goes on under the name `myserver_api`; our modules refer to each other already.
    """
    from importlib.machinery import PathFinder

    places = [directory, *_project, *os.environ.get("PYTHONPATH", "").split(":")]
    found = PathFinder.find_spec(_OURS, [place for place in places if place])
    origin = getattr(found, "origin", None) or myserver.__file__  # a directory alone is no module
    is_ours = sys.modules.get(_OURS) is myserver
    if is_ours and (
        top == _OURS or os.path.realpath(origin) != os.path.realpath(myserver.__file__)
    ):
        for name in [name for name in sys.modules if f"{name}.".startswith(f"{_OURS}.")]:
            sys.modules[f"{_ALIAS}{name.removeprefix(_OURS)}"] = sys.modules.pop(name)


def _keep_caches() -> None:
    """Lets each thread keep Django's cache clients, and with them their connections.

    Django has them in context variables (asgiref's), and those of a request end with it.
    """
    handlers = sys.modules.get("django.utils.connection")
    if handlers is None:
        return
    handlers.BaseConnectionHandler.thread_critical = True  # for those that are still to come
    caches = getattr(sys.modules.get("django.core.cache"), "caches", None)
    if caches is not None:
        names = [
            name for name in vars(caches).get("settings", ()) if hasattr(caches._connections, name)
        ]
        clients = {name: caches[name] for name in names}
        caches._connections = handlers.Local(True)
        for name, client in clients.items():
            caches[name] = client
