"""What the conversions of several servers share."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from .result import Cannot, Given, Result
from .tables import Row

# The most threads for what ran its requests in greenlets, where their number costs nothing.
GREEN_THREADS = 100


class Environment:
    """The environment in which the other server would start: ours, and what stands in front of its
    command line (`variables`)."""

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self.variables = dict(variables or {})

    def get(self, name: str, default: str) -> str:
        """The value of a variable."""
        return self.variables.get(name, os.environ.get(name, default))

    def find(self, name: str) -> str | None:
        """The same; None: it is not set."""
        return self.variables.get(name, os.environ.get(name))


def read_text(path: str | Path, place: str) -> str:
    """A file that `place` names. Cannot: it cannot be read, or is no text."""
    try:
        return Path(path).read_text()
    except OSError as error:
        raise Cannot(f"{place}: {path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise Cannot(f"{place}: {path}: it is no text in UTF-8") from None


def split_words(text: str, place: str) -> list[str]:
    """The words of a command line, as a shell splits them. Cannot: a quote has no end."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise Cannot(f"{place}: {text}: {str(error).lower()}") from None


def add_environment(result: Result, name: str, value: str, given: Given) -> None:
    """A variable for the application; a later one of the same name wins."""
    result.settings = [
        s for s in result.settings if not (s.name == "env" and s.text.startswith(f"{name}="))
    ]
    if not name.isidentifier():
        result.wrong.append(f'{given.place}: {given.name}: "{given.value}" is not NAME=VALUE')
        return
    result.set("env", f"{name}={value}", given)


def set_log_format(result: Result, given: Given, text: str, missing: Sequence[str]) -> None:
    """The format of the access log; `missing`: what there is no atom for."""
    result.set("access-logformat", text, given)
    if missing:
        result.drop(given, f"access-logformat has no {', '.join(missing)}, which are - in it")


def find_application(result: Result) -> None:
    """Names the one wsgi.py of a Django project in the working directory, if the configuration does
    not say what it serves; else leaves it open, which is something that is not kept."""
    places = sorted(Path().glob("*/wsgi.py")) if Path("manage.py").exists() else []
    if len(places) == 1:
        result.set(
            "app",
            f"{places[0].parent.name}.wsgi",
            note=f"nothing in {result.source} says it: found beside manage.py",
        )
        return
    given = Given("application", "", result.source)
    result.drop(
        given, "nothing says what it serves: write app = MODULE:CALLABLE, or name it behind -c FILE"
    )


def load_in_each_worker(result: Result) -> None:
    """Loads the application as the other server did: what its import starts is in every worker."""
    note = (
        f"{result.server} loaded the application in each worker. Without this line it is loaded once, "
        "and the workers share its memory; the log then says what of its import does not fit that"
    )
    result.set("preload", False, note=note)


def tls(result: Result, given: Given, row: Row) -> None:
    """A setting of TLS, which nginx has."""
    result.drop(given, row.note or "")
    lines = {
        "certfile": "ssl_certificate",
        "ssl-certificate": "ssl_certificate",
        "ssl-certificate-file": "ssl_certificate",
        "keyfile": "ssl_certificate_key",
        "ssl-keyfile": "ssl_certificate_key",
        "ssl-certificate-key-file": "ssl_certificate_key",
        "ca-certs": "ssl_client_certificate",
        "ssl-ca": "ssl_client_certificate",
        "ssl-ca-certificate-file": "ssl_client_certificate",
        "ciphers": "ssl_ciphers",
    }
    name = given.name.replace("_", "-")
    if name in lines:
        if "listen 443 ssl;" not in result.nginx:
            result.nginx += ["# TLS ends in nginx:", "listen 443 ssl;"]
        result.nginx.append(f"{lines[name]} {os.path.abspath(given.value)};")


def say_nginx(result: Result) -> None:
    """What nginx has to change for the addresses of the result: nothing, and what it may add."""
    binds = [s.text for s in result.settings if s.name == "bind"]
    uwsgi = [b.removeprefix("uwsgi:") for b in binds if b.startswith("uwsgi:")]
    http = [b for b in binds if not b.startswith("uwsgi:")]
    said = []
    if uwsgi:
        said.append(f"# Nothing has to change: uwsgi_pass goes on to {', '.join(uwsgi)}.")
    if http:
        said += [
            f"# Nothing has to change: proxy_pass goes on to {', '.join(http)}. With "
            '"keepalive 32;" in its upstream, it can keep its connections:',
            "proxy_http_version 1.1;",
            'proxy_set_header Connection "";',
        ]
    if not binds:
        said += ["# The address is ours, and new:", "proxy_pass http://127.0.0.1:8000;"]
    result.nginx = said + result.nginx


def drop_missing_directories(result: Result) -> None:
    """Takes back settings that name a directory which is not there: myserver would not start. Where
    the working directory itself is not there, this is not the machine that will serve."""
    base = next((s.text for s in result.settings if s.name == "chdir"), ".")
    if "$" in base or not os.path.isdir(base):
        return
    for setting in list(result.settings):
        path = setting.text.partition("=")[2] if setting.name == "static" else setting.text
        if (
            setting.name in ("pythonpath", "static")
            and "$" not in path
            and not os.path.isdir(os.path.join(base, path))
        ):
            result.settings.remove(setting)
            given = setting.given or Given(setting.name, setting.text, result.source)
            note = (
                f"there is no such directory; write {setting.name} = {setting.text} when there is"
            )
            result.drop(given, note)
    if not result.has("static"):
        result.remove("static-fallthrough")
