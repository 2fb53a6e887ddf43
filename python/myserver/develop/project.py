"""Loads the application of a project as its own development server would, and more."""

import importlib
import os
import runpy
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

from myserver.develop import terminal

Application = Callable[..., object]
Find = Callable[[str], Application]

# The function of Django's that runserver uses, too: it reads WSGI_APPLICATION of the settings.
DJANGO = "django.core.servers.basehttp:get_internal_wsgi_application()"
NAMES = ("application", "app", "wsgi", "wsgi_app")
FACTORIES = ("create_app", "make_app", "get_application", "main")


def load(app: str, find: Find, is_public: bool) -> Application:
    """Imports `app` and puts around it what its framework has for development.

    Args:
        app: a manage.py, or what `find` takes; the name of the callable may be left out.
        find: imports MODULE:CALLABLE, and returns the callable.
        is_public: other machines can connect: no debugger in the browser.

    Raises whatever the import raises.
    """
    os.environ.setdefault("FLASK_DEBUG", "1")  # as `flask run --debug`
    os.environ.setdefault("FLASK_RUN_FROM_CLI", "true")  # app.run() starts no server of its own
    if os.path.basename(app) == "manage.py":
        _run_manage(app)
        application = find(DJANGO)
    else:
        _load_environment()
        application = find(_name(app, find))
    if is_django():
        return _for_django(application)
    return _for_flask(application, is_public)


def _load_environment() -> None:
    """As Flask's own command: .env and .flaskenv, where python-dotenv is installed."""
    if not (os.path.exists(".env") or os.path.exists(".flaskenv")):
        return
    try:
        load_dotenv = importlib.import_module("dotenv").load_dotenv
    except ImportError:
        return
    for name in (".env", ".flaskenv"):
        load_dotenv(name)


def _name(app: str, find: Find) -> str:
    """`app` with the name of its callable, if it has none and the module has one that is usual."""
    target, colon, name = app.partition(":")
    if name and name not in FACTORIES:
        return app
    from myserver.load import load_module

    module = load_module(target)
    if name:
        return f"{app}()" if isinstance(getattr(module, name, None), type(_name)) else app
    return f"{target}:{_usual(module)}" if _usual(module) else app


def _usual(module: ModuleType) -> str:
    for name in NAMES:
        if callable(getattr(module, name, None)):
            return name
    flask: Any = getattr(sys.modules.get("flask"), "Flask", ())
    of_flask = [name for name, value in vars(module).items() if isinstance(value, flask)]
    if len(of_flask) == 1:
        return of_flask[0]
    factories = [name for name in FACTORIES if callable(getattr(module, name, None))]
    return f"{factories[0]}()" if factories else ""


# ---- Django


def _run_manage(path: str) -> None:
    """Runs a manage.py up to where it would run its command: it sets the settings module, and
    whatever else the project needs.
    """
    from django.core import management

    reached: list[object] = []
    execute, arguments = management.execute_from_command_line, sys.argv
    management.execute_from_command_line = reached.append
    # Projects ask for this name, to begin what they need in development.
    sys.argv = [path, "runserver"]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit:
        if not reached:
            raise
    finally:
        management.execute_from_command_line, sys.argv = execute, arguments


def is_django() -> bool:
    """Whether a Django project is loaded in this process."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    apps = getattr(sys.modules.get("django.apps"), "apps", None)
    return bool(getattr(settings, "configured", False) and getattr(apps, "ready", False))


def _for_django(application: Application) -> Application:
    from django.apps import apps
    from django.conf import settings
    from django.urls import get_resolver

    _ = get_resolver().url_patterns  # imports the views: what is broken in them is seen here
    _check_project()
    has_finders = apps.is_installed("django.contrib.staticfiles")
    # WhiteNoise's way to say that it serves these files itself.
    is_left_out = "whitenoise.runserver_nostatic" in settings.INSTALLED_APPS
    if settings.DEBUG and has_finders and not is_left_out:
        from django.contrib.staticfiles.handlers import StaticFilesHandler

        return cast(Application, StaticFilesHandler(application))
    return application


def _check_project() -> None:
    """What runserver checks: errors of models, settings and patterns are raised (SystemCheckError);
    migrations that are missing are said.
    """
    from django.core.management.base import BaseCommand
    from django.db import connections

    command = BaseCommand(stdout=sys.stderr, stderr=sys.stderr, no_color=not terminal.has_colours())
    command.check()
    try:
        command.check_migrations()
    except Exception as error:  # the pages that need no database still work
        terminal.say(f"the database cannot be asked: {type(error).__name__}: {error}", "yellow")
    finally:
        connections.close_all()


# ---- Flask


def _for_flask(application: Application, is_public: bool) -> Application:
    flask = getattr(sys.modules.get("flask"), "Flask", None)
    if flask is None or not isinstance(application, flask) or not application.debug:
        return application
    from werkzeug.debug import DebuggedApplication

    # It runs code for whoever knows its PIN.
    return cast(Application, DebuggedApplication(application, evalex=not is_public))
