"""Every raw request below tests/requests, over a socket; README.md there says how to read them."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes

import pytest

from harness import REQUESTS, SLOWNESS, Server

STILL_OPEN = b"GET /still-open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@dataclass
class Case:
    """One line of expected.txt."""

    name: str
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    end: str = ""


@dataclass
class Answer:
    """One response on a connection that may have more."""

    status: int
    headers: dict[str, str]
    body: bytes


def read_cases() -> list[Case]:
    """All lines of expected.txt."""
    cases = []
    for line in (REQUESTS / "expected.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, _, outcome = line.partition(": ")
        *requests, end = outcome.split(", ")
        case = Case(name, end=end)
        for request in requests:
            method, target, length = request.split(" ")
            case.requests.append((method, target, int(length)))
        cases.append(case)
    return cases


CASES = read_cases()


@pytest.fixture(scope="module")
def echo() -> Iterator[Server]:
    """One server for all of them: what one request does must not harm the next."""
    with Server("echo:application", threads=2) as server:
        yield server
        server.stop()
        problems, log = server.problems(), server.log
    assert not problems, log


def read_answer(stream: BinaryIO, is_head: bool = False) -> Answer:
    """The next final response; 100 Continue is passed over. Lengths must be given."""
    status_line = stream.readline()
    assert status_line.startswith(b"HTTP/1.1 "), status_line
    status = int(status_line.split()[1])
    headers = {}
    while (line := stream.readline()) != b"\r\n":
        name, colon, value = line.decode("latin-1").partition(":")
        assert colon and line.endswith(b"\r\n"), line
        headers[name.lower()] = value.strip()
    if status == 100:
        return read_answer(stream, is_head)
    length = 0 if is_head else int(headers["content-length"])
    body = stream.read(length)
    assert len(body) == length
    return Answer(status, headers, body)


def check_request(stream: BinaryIO, method: str, target: str, length: int) -> None:
    """The application saw this request."""
    answer = read_answer(stream, is_head=method == "HEAD")
    assert answer.status == 200, answer
    if method == "HEAD":
        return
    path, _, query = target.partition("?")
    seen = json.loads(answer.body)
    assert seen["method"] == method
    assert seen["path"] == unquote_to_bytes(path).decode("latin-1")
    assert seen["query"] == query
    assert seen["body_length"] == length


def check_end(client: socket.socket, stream: BinaryIO, end: str) -> None:
    """What happens to the connection behind the last request."""
    if end == "open":
        client.sendall(STILL_OPEN)
        check_request(stream, "GET", "/still-open", 0)
    elif end == "eof":
        client.shutdown(socket.SHUT_WR)
        assert not stream.read(12).startswith(b"HTTP/1.1 2")
        stream.read()
        return
    elif end != "close":
        answer = read_answer(stream)
        assert answer.status == int(end), answer
        assert answer.headers["connection"] == "close"
        assert answer.headers["content-type"].startswith("text/html")
    assert stream.read() == b""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_request_file(echo: Server, case: Case) -> None:
    """The file is answered as expected.txt says."""
    with echo.connect() as client:
        client.settimeout(10 * SLOWNESS)
        client.sendall((REQUESTS / case.name).read_bytes())
        with client.makefile("rb") as stream:
            for request in case.requests:
                check_request(stream, *request)
            check_end(client, stream, case.end)


def test_every_file_has_a_line() -> None:
    """No file is forgotten, no line is without its file."""
    files = {str(path.relative_to(REQUESTS)) for path in REQUESTS.glob("*/*.http")}
    assert files == {case.name for case in CASES}


def exchange(server: Server, data: bytes) -> dict[str, Any]:
    """Send one request and return what the application saw."""
    with server.connect() as client, client.makefile("rb") as stream:
        client.settimeout(20 * SLOWNESS)
        client.sendall(data)
        answer = read_answer(stream)
    assert answer.status == 200, answer
    return json.loads(answer.body)


def test_repeats_of_every_length(echo: Server) -> None:
    """Also of those that Python has one object for."""
    for value in (b"", b"1", b"12", b"\xe9"):
        seen = exchange(
            echo, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: %b\r\n" % value * 2 + b"\r\n"
        )
        text = value.decode("latin-1")
        assert seen["headers"]["HTTP_X_A"].replace(" ", "") == f"{text},{text}"


def test_the_authority_of_an_old_client(echo: Server) -> None:
    """HTTP/1.0 needs no Host; the target has one."""
    seen = exchange(echo, b"GET http://b.example:81/x HTTP/1.0\r\n\r\n")
    assert seen["headers"]["HTTP_HOST"] == "b.example:81"


def test_what_the_head_sets(echo: Server) -> None:
    """The authority of the target wins, names with `_` are dropped, repeats are joined."""
    seen = exchange(
        echo,
        b"GET http://b.example:81/x?y HTTP/1.1\r\nHost: a.example\r\nX_Real_IP: 6.6.6.6\r\n"
        b"Content_Length: 7\r\nAccept: a\r\nAccept: b\r\nCookie: a=1\r\nCookie: b=2\r\n"
        b"X-Name: caf\xe9\r\n\r\n",
    )
    assert seen["target"] == "http://b.example:81/x?y"
    assert seen["headers"]["HTTP_HOST"] == "b.example:81"
    assert seen["headers"]["HTTP_X_NAME"] == "caf\xe9"
    assert seen["headers"]["HTTP_ACCEPT"].replace(" ", "") == "a,b"
    assert seen["headers"]["HTTP_COOKIE"] == "a=1; b=2"
    assert "HTTP_X_REAL_IP" not in seen["headers"]
    assert "HTTP_CONTENT_LENGTH" not in seen["headers"]
    assert seen["headers"].get("CONTENT_LENGTH") in (None, "")


def test_trailers_never_reach_the_application(echo: Server) -> None:
    """Neither this request nor the next one on the connection sees them."""
    chunked = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n0\r\nX-Late: 1\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
    )
    with echo.connect() as client, client.makefile("rb") as stream:
        client.settimeout(10 * SLOWNESS)
        client.sendall(chunked + STILL_OPEN)
        for _ in range(2):
            headers = json.loads(read_answer(stream).body)["headers"]
            assert "HTTP_X_LATE" not in headers
            assert "HTTP_X_FORWARDED_FOR" not in headers


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_large_body_is_whole(echo: Server, chunked: bool) -> None:
    """A body that is kept in a file arrives byte for byte."""
    body = bytes(range(256)) * 12_000
    if chunked:
        head = b"Transfer-Encoding: chunked"
        pieces = [body[i : i + 50_000] for i in range(0, len(body), 50_000)]
        data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        head = b"Content-Length: %d" % len(body)
        data = body
    seen = exchange(echo, b"POST / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n" + data)
    assert seen["body_length"] == len(body)
    assert seen["body_sha1"] == hashlib.sha1(body).hexdigest()
    assert seen["headers"]["CONTENT_LENGTH"] == str(len(body))
