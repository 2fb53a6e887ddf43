"""`myserver status`: the state of a running server in a few lines, or its status page in a browser."""

import argparse
import hmac
import http.cookies
import http.server
import secrets
import sys
import webbrowser
from http import HTTPStatus

from myserver.asking import AskError, Control, add_options, find
from myserver.commands.top import head, look

_COOKIE = "myserver_status"
_PATHS = ("/", "/stats", "/views", "/requests", "/queries", "/advice")


def _are_equal(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())


class Handler(http.server.BaseHTTPRequestHandler):
    """Hands requests of one browser on to the server's control listener."""

    server: "Proxy"
    server_version, sys_version = "myserver", ""

    def do_GET(self) -> None:
        """Lets in who has the token, once; then who has the cookie."""
        path, _, query = self.path.partition("?")
        given = query.removeprefix("token=") if query.startswith("token=") else ""
        if not self.server.is_used and _are_equal(given, self.server.token):
            self.server.is_used = True
            self._send(HTTPStatus.SEE_OTHER, "text/plain", b"", enters=True)
        elif not self._is_let_in():
            text = b"The address that myserver status has printed is for one browser, once.\n"
            self._send(HTTPStatus.FORBIDDEN, "text/plain", text)
        elif path not in _PATHS:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"There is no such page.\n")
        else:
            self._pass_on(path)

    def _is_let_in(self) -> bool:
        cookies = http.cookies.SimpleCookie(self.headers.get("Cookie", ""))
        return _COOKIE in cookies and _are_equal(cookies[_COOKIE].value, self.server.cookie)

    def _pass_on(self, path: str) -> None:
        try:
            kind, body = self.server.control.read(path)
        except AskError as error:
            self._send(HTTPStatus.BAD_GATEWAY, "text/plain", f"{error}\n".encode())
            return
        self._send(HTTPStatus.OK, kind, body)

    def _send(self, status: HTTPStatus, kind: str, body: bytes, enters: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        if enters:
            self.send_header("Location", "/")
            cookie = f"{_COOKIE}={self.server.cookie}; HttpOnly; SameSite=Strict; Path=/"
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the address has the token."""


class Proxy(http.server.ThreadingHTTPServer):
    """On a free port of 127.0.0.1, for one browser."""

    daemon_threads = True

    def __init__(self, control: Control) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.control = control
        self.is_used = False  # the token
        self.token, self.cookie = secrets.token_urlsafe(), secrets.token_urlsafe()

    @property
    def address(self) -> str:
        """Where the browser goes first."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status: 1 if no worker serves, 2 for no server."""
    parser = argparse.ArgumentParser(
        prog="myserver status",
        description="Shows the state of a running server, or its status page in a browser.",
    )
    parser.add_argument(
        "--open",
        action="store_true",
        help="serve the page on 127.0.0.1, at an address that works once, until interrupted",
    )
    parser.add_argument("--no-browser", action="store_true", help="only print that address")
    add_options(parser)
    options = parser.parse_args(arguments)
    try:
        control = find(options)
        moment = look(control, None)
    except AskError as error:
        print(f"myserver status: {error}", file=sys.stderr)
        return 2
    if not options.open:
        print("\n".join(head(moment)))
        return 0 if moment.stats["ready"] else 1
    with Proxy(control) as proxy:
        print(proxy.address, flush=True)
        if not options.no_browser:
            webbrowser.open(proxy.address)
        try:
            proxy.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0
