"""Warms up a Django project without a request: no view, no middleware and no query runs.

What Django itself does with the first requests and keeps is done once, and shared by all workers.
A step that fails is a warning: Django does it again when it needs it. Called by load.py;
applications never import this module.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

_LANGUAGES_S = 2.0  # languages besides the default are loaded for this long


def structure() -> tuple[list[str], list[str]]:
    """Builds what a loaded Django project needs for any request: names of what was built, and
    warnings. Nothing for other applications.
    """
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    apps = getattr(sys.modules.get("django.apps"), "apps", None)
    done: list[str] = []
    warnings: list[str] = []
    if not getattr(settings, "configured", False) or not getattr(apps, "ready", False):
        return done, warnings
    steps: dict[str, Callable[[Any], object]] = {
        "views": _import_views,
        "models": _build_models,
        "templates": _build_templates,
        "languages": _load_languages,
        "settings": _import_settings,
    }
    for name, step in steps.items():
        try:
            step(settings)
            done.append(name)
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {error}".rstrip(": ")
            warnings.append(f"{name} of Django cannot be warmed up: {said}")
    return done, warnings


def default_host() -> str:
    """The Host for warm-up requests that name none: one that Django accepts, else localhost."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    try:
        allowed = list(settings.ALLOWED_HOSTS) if settings is not None else []
    except Exception:
        return "localhost"
    return next((host.lstrip(".") for host in allowed if host and "*" not in host), "localhost")


def _import_views(settings: Any) -> None:
    """Imports the URLconf with all that it includes, and compiles its patterns."""
    from django.urls import get_resolver

    if not getattr(settings, "ROOT_URLCONF", None):
        return
    resolver = get_resolver()
    for inner in _resolvers(resolver):
        for pattern in inner.url_patterns:
            pattern.pattern.regex  # noqa: B018
            getattr(pattern, "callback", None)
    resolver.reverse_dict  # noqa: B018
    for status in (400, 403, 404, 500):
        resolver.resolve_error_handler(status)


def _resolvers(resolver: Any) -> Iterator[Any]:
    yield resolver
    for pattern in resolver.url_patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _resolvers(pattern)


def _build_models(_settings: Any) -> None:
    """The caches of models and their fields: relations, names, managers."""
    from django.apps import apps

    names: dict[type, list[str]] = {}  # there are few types, and many fields
    for model in apps.get_models(include_auto_created=True):
        options: Any = model._meta
        for thing in (options, *options.get_fields(include_hidden=True)):
            kind = type(thing)
            if kind not in names:
                names[kind] = _cached_properties(kind)
            for name in names[kind]:
                with contextlib.suppress(Exception):  # some do not fit each field
                    getattr(thing, name)
    import_module("django.db.models.sql.compiler")


def _cached_properties(kind: type) -> list[str]:
    """Those that are Django's own, which only compute."""
    from django.utils.functional import cached_property

    bases = [base for base in kind.__mro__ if base.__module__.startswith("django.db.models.")]
    values = ((name, value) for base in bases for name, value in vars(base).items())
    return list(dict.fromkeys(name for name, value in values if isinstance(value, cached_property)))


def _build_templates(_settings: Any) -> None:
    """The engines with their libraries of tags, loaders and context processors; no template."""
    from django.forms.renderers import get_default_renderer
    from django.template import engines

    for backend in engines.all():
        engine = getattr(backend, "engine", None)
        for name in ("template_loaders", "template_context_processors"):
            getattr(engine, name, None)
    renderer = get_default_renderer()
    getattr(renderer, "engine", None)


def _load_languages(settings: Any) -> None:
    """The translations of the default language and, where users choose theirs, of others in the
    time that there is; with each, the names of the URL patterns.
    """
    if not settings.USE_I18N:
        return
    from django.urls import get_resolver
    from django.utils.translation import trans_real

    resolver = get_resolver() if getattr(settings, "ROOT_URLCONF", None) else None
    if "url_patterns" not in vars(resolver or object):  # they could not be imported
        resolver = None
    languages = [settings.LANGUAGE_CODE]
    if any(name.endswith("LocaleMiddleware") for name in settings.MIDDLEWARE or ()):
        if settings.is_overridden("LANGUAGES"):
            languages += [code for code, _name in settings.LANGUAGES]
    active: Any = trans_real._active
    before = getattr(active, "value", None)
    deadline = time.monotonic() + _LANGUAGES_S
    try:
        for language in dict.fromkeys(languages):
            trans_real.activate(language)
            if resolver:
                resolver.reverse_dict  # noqa: B018
            if time.monotonic() > deadline:
                return
    finally:
        if before is not None:
            active.value = before
        elif hasattr(active, "value"):
            del active.value


def _import_settings(settings: Any) -> None:
    """What settings name and a request imports."""
    from django.utils.module_loading import import_string

    for path in getattr(settings, "AUTHENTICATION_BACKENDS", ()):
        import_string(path)
    for name in ("MESSAGE_STORAGE", "CSRF_FAILURE_VIEW", "SIGNING_BACKEND"):
        path = getattr(settings, name, None)
        if path:
            import_string(path)
    for database in settings.DATABASES.values():
        engine = database.get("ENGINE") or "django.db.backends.dummy"
        import_module(f"{engine}.base")
