"""The PROXY protocol, versions 1 and 2: who is believed, and what becomes of the rest."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
from collections.abc import Callable

import pytest

from harness import Server, wait_for, whole_lines
from wire import Answer, Wire, let, request

Start = Callable[..., Server]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
V1_SIX = b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n"
V1_UNKNOWN = b"PROXY UNKNOWN\r\n"


def v2(
    client: str = "192.0.2.7", port: int = 56324, command: int = 0x21, more: bytes = b""
) -> bytes:
    """A header of version 2, with `more` bytes of TLVs."""
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    ends = socket.inet_pton(family, client) * 2 + struct.pack("!HH", port, 443) + more
    kind = 0x21 if family == socket.AF_INET6 else 0x11
    return SIGNATURE + struct.pack("!BBH", command, kind, len(ends)) + ends


V2_LOCAL = SIGNATURE + b"\x20\0\0\0"
ACCEPTED = [
    ("v1", V1, "192.0.2.7"),
    ("auto", V1, "192.0.2.7"),
    ("v1", V1_SIX, "2001:db8::7"),
    ("v1", V1_UNKNOWN, "127.0.0.1"),
    ("v2", v2(), "192.0.2.7"),
    ("auto", v2(), "192.0.2.7"),
    ("v2", v2("2001:db8::7"), "2001:db8::7"),
    ("v2", v2(more=b"\x04\0\x02xy\x05\0\x01z"), "192.0.2.7"),
    ("v2", V2_LOCAL, "127.0.0.1"),
]
NAMES = [f"{version}-{header[:14]!r}-{client}" for version, header, client in ACCEPTED]


def texts(answer: Answer) -> dict[str, str]:
    """The values of the environ in an answer."""
    return {key: value for key, (_, value) in answer.json().items()}


def seen(wire: Wire, target: str = "/environ", *lines: str) -> dict[str, str]:
    """The environ of one request."""
    return texts(wire.ask(target, *lines))


@pytest.fixture
def start(server: Start) -> Start:
    """Start the application that shows its environ."""
    return lambda version, **options: server("cases", proxy_protocol=version, **options)


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:app.sock"], ids=["tcp", "unix"])
@pytest.mark.parametrize("version, header, client", ACCEPTED, ids=NAMES)
def test_the_client_is_believed(
    start: Start, version: str, header: bytes, client: str, bind: str
) -> None:
    """For every request of the connection, whether it comes whole or in pieces."""
    s = start(version, binds=[bind])
    for pieces in ([header], [header[i : i + 1] for i in range(len(header))]):
        with Wire(s) as wire:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            for piece in pieces:
                wire.send(piece)
            for _ in range(2):
                environ = seen(wire)
                assert environ["REMOTE_ADDR"] == client
                assert environ["PATH_INFO"] == "/environ"
    with Wire(s) as wire:
        both = wire.send(header + request("GET", "/environ") * 2)
        assert [texts(both.answer())["REMOTE_ADDR"] for _ in range(2)] == [client] * 2


def test_the_port_of_the_client(start: Start) -> None:
    """It comes along."""
    s = start("auto")
    for header in (V1, v2()):
        with Wire(s) as wire:
            assert seen(wire.send(header))["REMOTE_PORT"] == "56324"


def test_forwarded_headers_of_a_client(start: Start) -> None:
    """Behind a balancer the client itself sends them: it is believed only if it is a proxy."""
    s = start("auto", forwarded_allow_ips="127.0.0.1,192.0.2.7")
    for header, client in ((v2("192.0.2.7"), "203.0.113.9"), (v2("192.0.2.8"), "192.0.2.8")):
        with Wire(s) as wire:
            environ = seen(wire.send(header), "/environ", "X-Forwarded-For: 203.0.113.9")
            assert environ["REMOTE_ADDR"] == client


def test_forwarded_headers_of_an_unknown_client(start: Start) -> None:
    """Nobody vouches for them: they are dropped, whatever they say."""
    s = start("auto")
    names = ("X-Forwarded-For", "X-Forwarded-User", "X-Forwarded-Prefix", "Forwarded", "X-Real-IP")
    lines = [f"{name}: 203.0.113.9" for name in names]
    for header in (V1_UNKNOWN, V2_LOCAL):
        with Wire(s) as wire:
            environ = seen(wire.send(header), "/environ", *lines)
            assert environ["REMOTE_ADDR"] == "127.0.0.1"
            assert not [key for key in environ if "FORWARDED" in key or "REAL_IP" in key]


WRONG = {
    "no header": request("GET", "/"),
    "bad address": V1.replace(b".7", b".777"),
    "bad family": V1.replace(b"TCP4", b"UDP4"),
    "bare newline": V1.replace(b"\r\n", b"\n"),
    "too long": b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n",
    "bad version": v2(command=0x31),
    "bad command": v2(command=0x2F),
    "short address": SIGNATURE + b"\x21\x11\0\x04aaaa",
    "torn TLV": v2(more=b"\x04\0\x09xy"),
    "huge": SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 70000,
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_closed(start: Start, name: str) -> None:
    """Without a word, and nothing behind it is run."""
    s = start("auto", access_logfile="-", access_logformat="json")
    with Wire(s) as wire:
        try:
            wire.send(WRONG[name] + request("GET", "/ran"))
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert wire.is_closed()
    assert s.log_contains("closed a connection from 127.0.0.1: no PROXY header")
    assert '"/ran"' not in s.log


def test_the_version_that_was_not_chosen(start: Start) -> None:
    """v1 alone takes no v2, and the other way round; the second header is no request either."""
    for version, header in (("v1", v2()), ("v2", V1)):
        with Wire(start(version)) as wire:
            assert wire.send(header + request("GET", "/")).is_closed()
    with Wire(start("v1")) as wire:
        answer = wire.send(V1 + V1 + request("GET", "/")).answer()
        assert (answer.status, answer.get("Connection")) in ((400, "close"), (501, "close"))
        assert wire.is_closed()


@pytest.mark.parametrize("header", [V1, v2()], ids=["v1", "v2"])
def test_others_may_not_speak_it(start: Start, header: bytes) -> None:
    """From an untrusted peer the header is a malformed request; without it, it is served."""
    s = start("auto", forwarded_allow_ips="10.0.0.0/8")
    with Wire(s) as wire:
        answer = wire.send(header + request("GET", "/")).answer()
        assert answer.status in (400, 501)
        assert wire.is_closed()
    with Wire(s) as wire:
        assert seen(wire)["REMOTE_ADDR"] == "127.0.0.1"


def test_off_by_default(server: Start) -> None:
    """Nobody may then."""
    s = server("cases")
    with Wire(s) as wire:
        assert wire.send(V1 + request("GET", "/")).answer().status in (400, 501)


def test_half_a_header(start: Start) -> None:
    """It is waited for as long as for a head, then closed; no line in the access log."""
    s = start("auto", header_timeout="300ms", access_logfile="-", access_logformat="json")
    for part in (b"", b"PROXY TC", SIGNATURE, v2()[:-1]):
        with Wire(s) as wire:
            assert wire.send(part).is_closed()
    with Wire(s) as wire:
        wire.send(V1[:10])

    def is_seen() -> bool:
        """A client that the machine stops for so long has sent only half, too."""
        try:
            with Wire(s) as wire:
                answer = wire.send(V1 + request("GET", "/environ")).answer()
        except (BrokenPipeError, ConnectionResetError):
            return False
        return bool(answer.status) and texts(answer)["REMOTE_ADDR"] == "192.0.2.7"

    wait_for(is_seen)

    def lines() -> list[str]:
        return [line for line in whole_lines(s.log) if line.startswith('{"time"')]

    wait_for(lines, what="a line")
    assert [json.loads(line)["client"] for line in lines()] == ["192.0.2.7"]


def test_the_header_goes_with_the_connection(start: Start) -> None:
    """A connection that another worker takes over before its first byte still owes the header."""
    s = start("v1", workers=2)
    with Wire(s) as busy:
        busy.send(V1).request("GET", "/steps?go")
        assert busy.head().status == 200
        for _ in range(20):
            with Wire(s) as other:
                assert seen(other.send(V1))["REMOTE_ADDR"] == "192.0.2.7"
        let(s, "go")


def test_curl_speaks_it(start: Start) -> None:
    """The same from a client that is not ours."""
    s = start("v1")
    command = ["curl", "-s", "--haproxy-protocol", f"{s.url}/environ"]
    done = subprocess.run(command, capture_output=True, timeout=20, check=True)
    assert json.loads(done.stdout)["REMOTE_ADDR"] == ["str", "127.0.0.1"]
