"""The WSGI application around the developer's: access lines, tracebacks in the browser, live pages."""

import ipaddress
import os
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any
from urllib.parse import quote

from myserver.develop import debugger, page, terminal

PREFIX = "/__myserver__/"
Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | None


class Application:
    """Serves a WSGI application, or shows why there is none.

    Args:
        found: the application, or why it could not be loaded.
        is_public: other machines may see tracebacks.
        is_live: pages load themselves again when the code has changed.
    """

    def __init__(
        self, found: Callable[..., Any] | page.Fault, is_public: bool, is_live: bool
    ) -> None:
        self.found = found
        self.is_public = is_public
        self.is_live = is_live
        self.generation = f"{os.getpid()}-{time.time_ns()}"
        debugger.install()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request (PEP 3333)."""
        path: str = environ.get("PATH_INFO", "")
        if path.startswith(PREFIX):
            return self._answer_own(path.removeprefix(PREFIX), start_response)
        return _Exchange(self, environ, start_response).run()

    def _answer_own(self, name: str, start_response: StartResponse) -> Iterable[bytes]:
        kinds = {"generation": "text/plain", "live.js": "text/javascript"}
        body = page.LIVE_JS if name == "live.js" else self.generation
        status = "200 OK" if name in kinds else "404 Not Found"
        headers = [
            ("Content-Type", f"{kinds.get(name, 'text/plain')}; charset=utf-8"),
            ("Cache-Control", "no-store"),
        ]
        start_response(status, headers)
        return [body.encode() if name in kinds else b"Not Found\n"]

    def may_show(self, environ: Environ) -> bool:
        """Whether the host that the browser believes to talk to is this machine.

        A page elsewhere could let its own name point here, and read what is shown.
        """
        host: str = environ.get("HTTP_HOST") or "localhost"
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if self.is_public or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


class _Exchange:
    """One request of the application, and its answer."""

    def __init__(self, outer: Application, environ: Environ, start_response: StartResponse) -> None:
        self.outer = outer
        self.environ = environ
        self.start_response = start_response
        self.began = time.monotonic()
        self.status = "500"
        self.is_told = False  # the access line is written
        self.is_sent = False  # a piece of the body has gone out
        self.suffix = b""  # what makes the page live

    def run(self) -> Iterable[bytes]:
        """Calls the application. What it returns, or what takes its place."""
        found = self.outer.found
        if isinstance(found, page.Fault):
            return self.show(found, None)
        try:
            body: Iterable[bytes] = found(self.environ, self.start)
        except Exception as error:
            return self.show(page.Fault(error), error)
        finally:
            debugger.leave()
        # The server sends these in its own way, which a wrapper would prevent.
        is_plain = isinstance(body, (list, tuple)) or type(body) is self.environ.get(
            "wsgi.file_wrapper"
        )
        if is_plain and not self.suffix:
            self.finish()
            return body
        return _Body(self, body)

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo = None) -> Any:
        """start_response, as the application sees it."""
        self.status = status[:3]
        if self.wants_script(headers):
            headers = [pair for pair in headers if pair[0].lower() != "content-length"]
            self.suffix = page.live_script(self.environ.get("SCRIPT_NAME", "") + PREFIX).encode()
        else:
            self.suffix = b""
        if exc_info:
            return self.start_response(status, headers, exc_info)
        return self.start_response(status, headers)

    def wants_script(self, headers: list[tuple[str, str]]) -> bool:
        """Whether the answer is a page that a browser shows, and that it can simply load again."""
        known = {name.lower(): value for name, value in headers}
        return (
            self.outer.is_live
            and self.environ["REQUEST_METHOD"] == "GET"
            and self.environ.get("HTTP_SEC_FETCH_DEST") in ("document", "iframe")
            and known.get("content-type", "").startswith("text/html")
            and "content-encoding" not in known
            and "content-disposition" not in known
            and (self.status == "200" or self.status[0] in "45")
        )

    def show(self, fault: page.Fault, error: BaseException | None) -> Iterable[bytes]:
        """The page of a fault; `error` is what the application has just raised."""
        if error:
            terminal.say(f"{self.environ['REQUEST_METHOD']} {self.target()}: {fault.title}", "red")
            terminal.block(fault.text)
        is_page = "text/html" in self.environ.get("HTTP_ACCEPT", "")
        self.status = "500"
        if not self.outer.may_show(self.environ):
            text, kind = page.FOREIGN_HOST, "text/plain"
        elif is_page:
            prefix = self.environ.get("SCRIPT_NAME", "") + PREFIX
            is_repeatable = self.environ["REQUEST_METHOD"] in ("GET", "HEAD")
            text = fault.html(prefix, self.outer.generation if is_repeatable else "")
            kind = "text/html"
        else:
            text, kind = f"{fault.text}\n", "text/plain"
        body = text.encode("utf-8", "backslashreplace")
        headers = [("Content-Type", f"{kind}; charset=utf-8"), *page.HEADERS]
        headers.append(("Content-Length", str(len(body))))
        if error:
            self.start_response(
                "500 Internal Server Error",
                headers,
                (type(error), error, error.__traceback__),
            )
        else:
            self.start_response("500 Internal Server Error", headers)
        self.finish()
        return [body]

    def target(self) -> str:
        """Path and query, as ASCII."""
        path = self.environ.get("SCRIPT_NAME", "") + self.environ.get("PATH_INFO", "")
        query = self.environ.get("QUERY_STRING", "")
        shown = quote(path.encode("latin-1"), safe="/%:@!$&'()*+,;=~")
        return shown + (f"?{quote(query, safe='/%:@!$&()*+,;=~?')}" if query else "")

    def finish(self) -> None:
        """The access line, once."""
        if not self.is_told:
            self.is_told = True
            method = quote(self.environ["REQUEST_METHOD"])
            terminal.access(method, self.target(), self.status, time.monotonic() - self.began)


class _Body:
    """The application's iterable: what it raises at first is shown, and its end is noted."""

    def __init__(self, exchange: _Exchange, body: Iterable[bytes]) -> None:
        self.exchange = exchange
        self.body = body
        self.pieces: Iterator[bytes] | None = None
        self.is_over = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self.is_over:
            raise StopIteration
        try:
            if self.pieces is None:
                self.pieces = iter(self.body)
            piece = next(self.pieces)
        except StopIteration:
            self.is_over = True
            if self.exchange.suffix:
                return self.exchange.suffix
            raise
        except Exception as error:
            self.is_over = True
            if self.exchange.is_sent:
                raise
            return b"".join(self.exchange.show(page.Fault(error), error))
        finally:
            debugger.leave()
        self.exchange.is_sent |= bool(piece)
        return piece

    def close(self) -> None:
        """Ends the application's iterable."""
        close = getattr(self.body, "close", None)
        try:
            if close:
                close()
        finally:
            self.exchange.finish()
