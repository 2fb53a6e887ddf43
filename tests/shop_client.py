"""The shop from outside: a small browser, how to prepare a database, and what must always work."""

import hashlib
import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from html import unescape
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from harness import SHOP, SLOWNESS, VENV, Response

PRODUCTS = 300
TIMEOUT_S = 30 * SLOWNESS


def shop_env(var_dir: Path, **extra: str) -> dict[str, str]:
    """Environment of a shop in production that keeps its files in `var_dir`."""
    env = {
        "SHOP_VAR": str(var_dir),
        "DEBUG": "false",
        "DIAGNOSTICS": "true",
        "SECRET_KEY": "for-the-tests-only",
        "ALLOWED_HOSTS": "*",
        "DATABASE_URL": "",
    }
    return env | extra


def shop_options(var_dir: Path, **extra: str) -> dict[str, Any]:
    """What the `server` fixture needs to serve the shop."""
    return {"app": "shop.wsgi", "pythonpath": SHOP, "env": shop_env(var_dir, **extra)}


def populate(var_dir: Path, **extra: str) -> Path:
    """Makes the tables, PRODUCTS products and the user admin/admin; returns `var_dir`."""
    # DEBUG: only then is there a superuser with a known password.
    env = os.environ | shop_env(var_dir, **extra) | {"DEBUG": "true"}
    python = VENV / "bin" / "python" if VENV.exists() else sys.executable
    for command in (["migrate", "-v0"], ["populate", "--products", str(PRODUCTS)]):
        subprocess.run(
            [str(python), str(SHOP / "manage.py"), *command],
            env=env,
            check=True,
            timeout=120,
            stdout=subprocess.DEVNULL,
        )
    return var_dir


class Answer(Response):
    """One response, read whole."""

    @property
    def location(self) -> str:
        """Where a redirect leads."""
        return self.headers["Location"]

    def links(self, pattern: str) -> list[str]:
        """All values of href, src and action that `pattern` matches from their beginning."""
        found = (unescape(one) for one in re.findall(r'(?:href|src|action)="([^"]*)"', self.text))
        return [one for one in found if re.match(pattern, one)]


class Client:
    """A browser with one kept-alive connection and cookies, without caches or redirects."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.base = url.rstrip("/")
        self.cookies: dict[str, str] = {}
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=TIMEOUT_S
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; a later request opens another."""
        self._connection.close()

    @property
    def socket(self) -> socket.socket | None:
        """The connection, while there is one."""
        return self._connection.sock

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Sends one request with the cookies of earlier answers."""
        sent = dict(headers or {})
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{key}={value}" for key, value in self.cookies.items())
        self._connection.request(method, path, body=body, headers=sent)
        response = self._connection.getresponse()
        answer = Answer(response.status, response.reason, response.headers, response.read())
        for line in answer.headers.get_all("Set-Cookie", []):
            self.cookies |= {key: morsel.value for key, morsel in SimpleCookie(line).items()}
        return answer

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """GET."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, **fields: str) -> Answer:
        """POST of a form as a browser does it, with the CSRF token that an earlier page gave."""
        body = urlencode(self._with_token(fields)).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.request("POST", path, body, headers)

    def upload(self, path: str, name: str, content: bytes, chunked: bool = False) -> Answer:
        """POST of a form with one file in its field `file`."""
        boundary = uuid.uuid4().hex
        head = b""
        for key, value in self._with_token({}).items():
            head += _part(boundary, f'name="{key}"') + value.encode() + b"\r\n"
        head += _part(boundary, f'name="file"; filename="{name}"')
        whole = head + content + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        if not chunked:
            return self.request("POST", path, whole, headers)
        headers["Transfer-Encoding"] = "chunked"
        return self.request("POST", path, _chunks(whole, 50_000), headers)

    def _with_token(self, fields: dict[str, str]) -> dict[str, str]:
        return {"csrfmiddlewaretoken": self.cookies.get("csrftoken", "")} | fields


def _part(boundary: str, disposition: str) -> bytes:
    return f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()


def _chunks(body: bytes, size: int) -> bytes:
    """`body` in chunked coding; http.client leaves a header that is set alone."""
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return coded + b"0\r\n\r\n"


def at_once(visits: int, url: str, visit: Callable[[Client], None]) -> None:
    """Calls `visit` in so many threads, each with its own browser; raises an error of theirs."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with Client(url) as client:
                visit(client)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(visits)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def is_whole(answer: Answer) -> bool:
    """The page has its length and the bytes to it."""
    return int(answer.headers["Content-Length"]) == len(answer.body)


def check_home(client: Client) -> None:
    """The home page, with its style sheet and its first picture."""
    home = client.get("/")
    assert home.status == 200
    assert is_whole(home)
    assert home.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "</html>" in home.text
    assert len(home.links("/category/")) >= 40
    style = client.get(home.links("/static/.*css")[0])
    assert (style.status, style.headers["Content-Type"]) == (200, "text/css")
    picture = client.get(home.links("/media/")[0])
    assert (picture.status, picture.headers["Content-Type"]) == (200, "image/svg+xml")
    assert picture.body.startswith(b"<svg")


def check_feedback(client: Client) -> None:
    """A form with its token: stored, redirected, thanked for once."""
    assert client.get("/feedback/").status == 200
    sent = client.post("/feedback/", name="Ada", message="Zwölf große Körbe, bitte! 🧺")
    assert (sent.status, sent.location) == (302, "/feedback/")
    assert "your message has arrived" in client.get(sent.location).text
    assert "your message has arrived" not in client.get(sent.location).text


def check_upload(client: Client, size_bytes: int, chunked: bool = False) -> None:
    """An upload that comes back as it was."""
    content = os.urandom(size_bytes)
    assert client.get("/files/").status == 200
    sent = client.upload("/files/", "noise.bin", content, chunked)
    assert (sent.status, sent.location) == (302, "/files/")
    page = client.get("/files/")
    assert f"Stored noise.bin, {size_bytes} bytes" in page.text
    assert hashlib.sha256(content).hexdigest() in page.text
    back = client.get(page.links(r"/files/\d+/")[0])
    assert back.headers["Content-Disposition"] == 'attachment; filename="noise.bin"'
    assert back.body == content


def check_export(client: Client) -> None:
    """The streamed catalogue is whole and in order."""
    answer = client.get("/export/products.csv")
    assert answer.status == 200
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in answer.headers
    lines = answer.text.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["sku"] + [
        f"SH-{number:05}" for number in range(1, PRODUCTS + 1)
    ]


def check_availability(client: Client) -> None:
    """The async page."""
    answer = client.get("/availability/").json()
    assert answer["in_stock"] + answer["sold_out"] == PRODUCTS
    assert len(answer["suppliers"]) == 3
    assert answer["elapsed_ms"] >= 50
