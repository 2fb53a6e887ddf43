"""Settings of the shop. What differs between machines comes from the environment:

DEBUG          true (default) or false
SECRET_KEY     needed when DEBUG is false
ALLOWED_HOSTS  separated by commas, "*" for any
DATABASE_URL   default: an SQLite file in SHOP_VAR
SHOP_VAR       directory of everything that is written, default: var beside the project
DIAGNOSTICS    true or false: the pages below /diagnostics/, default: as DEBUG
"""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from shop import database


def _flag(name: str, default: bool) -> bool:
    """A boolean from the environment; anything but true and false is an error."""
    value = os.environ.get(name, str(default)).lower()
    if value not in ("true", "false"):
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be true or false")
    return value == "true"


BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get("SHOP_VAR", BASE_DIR.parent / "var")).resolve()

DEBUG = _flag("DEBUG", True)
DIAGNOSTICS = _flag("DIAGNOSTICS", DEBUG)
SECRET_KEY = os.environ.get("SECRET_KEY", "for-development-only" if DEBUG else "")
ALLOWED_HOSTS = [host for host in os.environ.get("ALLOWED_HOSTS", "").split(",") if host]

# No SECURE_PROXY_SSL_HEADER and no USE_X_FORWARDED_HOST: the server believes a trusted proxy
# only, and sets wsgi.url_scheme and REMOTE_ADDR from what it says.

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "catalogue",
    "orders",
    "files",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "catalogue.context.navigation",
            ]
        },
    }
]

ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

VAR_DIR.mkdir(parents=True, exist_ok=True)  # SQLite makes its file, not the directory
DATABASES = {
    "default": (
        database.from_url(os.environ["DATABASE_URL"])
        if os.environ.get("DATABASE_URL")
        else database.sqlite(VAR_DIR / "shop.sqlite3")
    )
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = VAR_DIR / "static"
MEDIA_URL = "media/"
MEDIA_ROOT = VAR_DIR / "media"

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    # Outside MEDIA_ROOT: what visitors upload must never be shown as a page of this site.
    "uploads": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": VAR_DIR / "uploads"},
    },
}
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024  # bytes; larger uploads go through a temporary file

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "{levelname} {name}: {message}", "style": "{"},
        # Every record of django.request carries the request.
        "request": {"format": "{levelname} {request.method} {message}", "style": "{"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "plain"},
        "request": {"class": "logging.StreamHandler", "formatter": "request", "level": "WARNING"},
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "django": {"handlers": ["console"], "level": "INFO", "propagate": False},
        "django.request": {"handlers": ["request"], "propagate": False},
    },
}
