"""The uwsgi protocol: packets as nginx sends them, as nobody should, and nginx itself."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from harness import Server, StartFailed, wait_for, whole_lines
from test_systemd import activated
from test_upgrade import end, upgrade
from wire import Answer, Wire, let, request

Start = Callable[..., Server]
Text = str | bytes

BINDS = {"unix": "uwsgi:unix:app.sock", "tcp": "uwsgi:127.0.0.1:0"}
ACCESS = {"access_logfile": "-", "access_logformat": "json"}


def to_bytes(text: Text) -> bytes:
    """As the packet has it."""
    return text if isinstance(text, bytes) else text.encode("latin-1")


def packed(pairs: list[tuple[Text, Text]]) -> bytes:
    """Variables as the packet has them."""
    texts = [to_bytes(text) for pair in pairs for text in pair]
    return b"".join(struct.pack("<H", len(text)) + text for text in texts)


def packet(*pairs: tuple[Text, Text], body: bytes = b"", mark: tuple[int, int] = (0, 0)) -> bytes:
    """A packet with exactly these variables."""
    data = packed(list(pairs))
    return struct.pack("<BHB", mark[0], len(data), mark[1]) + data + body


def get(path: str = "/environ", *more: tuple[Text, Text], body: bytes | None = None) -> bytes:
    """What nginx sends for a request; `more` replaces variables of the same name, or comes last."""
    query = path.partition("?")[2]
    usual: dict[Text, Text] = {
        "QUERY_STRING": query,
        "REQUEST_METHOD": "GET" if body is None else "POST",
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": "" if body is None else str(len(body)),
        "REQUEST_URI": path,
        "PATH_INFO": path.partition("?")[0],
        "DOCUMENT_ROOT": "/usr/share/nginx/html",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_SCHEME": "http",
        "REMOTE_ADDR": "203.0.113.9",
        "REMOTE_PORT": "4711",
        "SERVER_PORT": "8080",
        "SERVER_NAME": "shop.example",
        "HTTP_HOST": "test.example",
    }
    usual.update(more)
    return packet(*usual.items(), body=body or b"")


def ask(s: Server, data: bytes, method: str = "GET") -> Answer:
    """The answer to a packet; the connection ends behind it."""
    with Wire(s) as wire:
        answer = wire.send(data).answer(method)
        assert wire.is_closed()
        return answer


def seen(s: Server, data: bytes) -> dict[str, str]:
    """The environ of a request."""
    return {key: value for key, (_, value) in ask(s, data).json().items()}


def lines(s: Server, begin: int = 0) -> list[dict[str, object]]:
    """The access log, behind `begin`."""
    return [json.loads(line) for line in whole_lines(s.log[begin:]) if line.startswith('{"time"')]


@pytest.fixture(params=BINDS)
def s(request: pytest.FixtureRequest, server: Start) -> Server:
    """A server whose peers are trusted proxies."""
    return server("cases", binds=[BINDS[request.param]], **ACCESS)


@pytest.fixture
def untrusting(server: Start) -> Server:
    """A server whose peers nobody vouches for."""
    return server("cases", binds=[BINDS["tcp"]], forwarded_allow_ips="192.0.2.1", **ACCESS)


def test_everyone_is_trusted_but_not_their_clients(server: Start) -> None:
    """`*` is about who connects: nginx sends on what its clients claim."""
    s = server("cases", binds=[BINDS["tcp"]], forwarded_allow_ips="*", **ACCESS)
    claims = [("HTTP_X_FORWARDED_FOR", "6.6.6.6"), ("HTTP_X_FORWARDED_PROTO", "https")]
    environ = seen(s, get("/environ", *claims))
    assert environ["REMOTE_ADDR"] == "203.0.113.9"
    assert environ["wsgi.url_scheme"] == "http"


# ---- what a packet says


def test_environ(s: Server) -> None:
    """As from HTTP, with what the proxy says of the client and of itself."""
    environ = seen(s, get("/environ/a?x=1&y=%20", ("HTTP_USER_AGENT", "me"), ("HTTP_X_A_B", " v ")))
    expected = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/environ/a",
        "QUERY_STRING": "x=1&y=%20",
        "REQUEST_URI": "/environ/a?x=1&y=%20",
        "RAW_URI": "/environ/a?x=1&y=%20",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "8080",
        "REMOTE_ADDR": "203.0.113.9",
        "REMOTE_PORT": "4711",
        "DOCUMENT_ROOT": "/usr/share/nginx/html",
        "HTTP_HOST": "test.example",
        "HTTP_USER_AGENT": "me",
        "HTTP_X_A_B": "v",
        "wsgi.url_scheme": "http",
        "wsgi.input_terminated": "True",
    }
    assert {key: environ[key] for key in expected} == expected
    assert not {"CONTENT_TYPE", "CONTENT_LENGTH", "HTTPS"} & set(environ)
    assert environ["SERVER_SOFTWARE"].startswith("myserver/")


def test_each_request_by_itself(s: Server) -> None:
    """Nothing of one request is left in the next."""
    assert seen(s, get("/environ", ("EXTRA", "1"), ("HTTPS", "on")))["EXTRA"] == "1"
    for _ in range(3):
        environ = seen(s, get("/environ"))
        assert "EXTRA" not in environ and environ["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize("size", [0, 1, 3000, 70_000, 3_000_000])
@pytest.mark.parametrize("step", [None, 1000])
def test_bodies(s: Server, size: int, step: int | None) -> None:
    """In memory, in a file, in one piece or in many."""
    body = os.urandom(size)
    data = get("/echo?q", body=body)
    with Wire(s) as wire:
        for at in range(0, len(data), step or len(data)):
            wire.send(data[at : at + (step or len(data))])
        assert wire.answer().body == b"POST q " + body
        assert wire.is_closed()


def test_byte_by_byte(s: Server) -> None:
    """However the packet is split."""
    data = get("/echo", ("HTTP_X", "y" * 300), body=b"body")
    with Wire(s) as wire:
        if isinstance(s.address, tuple):
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(data)):
            wire.send(data[at : at + 1])
        assert wire.answer().body == b"POST  body"


def test_bytes_behind_the_body(s: Server) -> None:
    """They are no second request."""
    for data in (get("/echo", body=b"body") + b"more", get("/echo") + get("/environ")):
        answer = ask(s, data)
        assert answer.status == 200 and answer.complete
    wait_for(lambda: len(lines(s)) == 2)


PATHS = [
    # PATH_INFO, REQUEST_URI; what the application sees, what the log shows
    ("/environ/a b", "/environ/a%20b", "/environ/a b", "/environ/a%20b"),
    ("/environ/\xc3\xbc", "/environ/%C3%BC", "/environ/\xc3\xbc", "/environ/%C3%BC"),
    ("/environ/50%25", "/environ/50%2525", "/environ/50%25", "/environ/50%2525"),
    ("/environ/%41", "/old/name", "/environ/%41", "/environ/%2541"),
    ("/environ/a?b#c", "/environ/a%3Fb%23c", "/environ/a?b#c", "/environ/a%3Fb%23c"),
    ("/environ/\n\xff\t", "/elsewhere", "/environ/\n\xff\t", "/environ/%0A%FF%09"),
    ("/environ//a/", "//environ//a/", "/environ//a/", "/environ//a/"),
    ("/environ/x", "http://other.example/environ/x", "/environ/x", "/environ/x"),
    ("", "/environ/%41", "/environ/A", "/environ/%41"),
    ("/environ/new", "", "/environ/new", "/environ/new"),
]


@pytest.mark.parametrize("path, uri, info, logged", PATHS, ids=range(len(PATHS)))
def test_paths(s: Server, path: str, uri: str, info: str, logged: str) -> None:
    """PATH_INFO is decoded already, and never again; it counts where a proxy has rewritten."""
    environ = seen(
        s, get("/", ("PATH_INFO", path), ("REQUEST_URI", uri), ("QUERY_STRING", "a=%20"))
    )
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == (info, "a=%20")
    assert environ["REQUEST_URI"] == (uri or f"{path}?a=%20")
    wait_for(lambda: lines(s))
    assert (lines(s)[0]["path"], lines(s)[0]["query"]) == (logged, "a=%20")


def test_missing_variables(s: Server) -> None:
    """Only the method and a path must be there."""
    few = [("REQUEST_METHOD", "GET"), ("PATH_INFO", "/environ")]
    environ = seen(s, packet(*few))
    assert (environ["SERVER_PROTOCOL"], environ["REQUEST_URI"]) == ("HTTP/1.1", "/environ")
    assert environ["SERVER_NAME"] and environ["SERVER_PORT"]
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    for missing in few:
        assert ask(s, packet(*(pair for pair in few if pair != missing))).status == 400
    assert ask(s, packet()).status == 400


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0"])
def test_versions(s: Server, version: str) -> None:
    """What the proxy's client speaks is shown; an answer never has chunks."""
    assert seen(s, get("/environ", ("SERVER_PROTOCOL", version)))["SERVER_PROTOCOL"] == version
    with Wire(s) as wire:
        wire.send(get("/steps?go", ("SERVER_PROTOCOL", version)))
        head = wire.head()
        assert head.status == 200
        assert head.get("Transfer-Encoding") is None and head.get("Content-Length") is None
        let(s, "go")
        body = wire.stream.read()
        assert body and b"\r\n" not in body
    wait_for(lambda: len(lines(s)) == 2)
    assert {line["protocol"] for line in lines(s)} == {version}


def test_head(s: Server) -> None:
    """No body."""
    answer = ask(s, get("/hello", ("REQUEST_METHOD", "HEAD")), "HEAD")
    assert (answer.status, answer.body) == (200, b"")


def test_steering_variables(s: Server, tmp_path: Path) -> None:
    """What tells uWSGI to load or to change something is not even shown."""
    script = tmp_path / "evil.py"
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\napplication = None\n")
    names = "SCRIPT FILE MODULE CALLABLE PYHOME CHDIR SETENV APPID POSTFILE TOUCH_RELOAD".split()
    more = [(f"UWSGI_{name}", str(script)) for name in names]
    environ = seen(s, get("/environ", *more))
    assert not [key for key in environ if key.startswith("UWSGI_")]
    assert not (tmp_path / "ran").exists()


def test_script_name(server: Start) -> None:
    """The setting counts, for the whole path that PATH_INFO is."""
    s = server("cases", binds=[BINDS["unix"]], script_name="/shop")
    more = ("SCRIPT_NAME", "/elsewhere")
    environ = seen(s, get("/shop/environ/%41", more, ("PATH_INFO", "/shop/environ/A")))
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/shop", "/environ/A")
    assert ask(s, get("/environ", more)).status == 404


# ---- who says it

SPOOFED = [
    ("REMOTE_ADDR", "198.51.100.66"),
    ("REMOTE_PORT", "66"),
    ("HTTPS", "on"),
    ("REQUEST_SCHEME", "https"),
    ("UWSGI_SCHEME", "https"),
    ("REMOTE_USER", "admin"),
    ("SERVER_NAME", "evil.example"),
    ("SERVER_PORT", "66"),
    ("EXTRA", "evil"),
    ("HTTP_X_FORWARDED_FOR", "198.51.100.66"),
    ("HTTP_X_FORWARDED_PROTO", "https"),
    ("HTTP_X_REAL_IP", "198.51.100.66"),
]


def test_untrusted_peer(untrusting: Server) -> None:
    """It speaks only for itself."""
    environ = seen(untrusting, get("/environ", *SPOOFED))
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("127.0.0.1", "http")
    assert not [key for key, value in environ.items() if value in dict(SPOOFED).values()]
    assert environ["SERVER_PORT"] == str(untrusting.port)
    assert environ["REMOTE_PORT"] != "66"


def test_trusted_peer(s: Server) -> None:
    """It speaks for its client; what the client has sent itself does not count."""
    environ = seen(s, get("/environ", *SPOOFED))
    assert environ["REMOTE_ADDR"] == "198.51.100.66"
    assert environ["wsgi.url_scheme"] == "https"
    assert (environ["REMOTE_USER"], environ["EXTRA"]) == ("admin", "evil")
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("evil.example", "66")
    assert not [key for key in environ if "FORWARDED" in key or "REAL_IP" in key]
    environ = seen(s, get("/environ", *SPOOFED[-3:]))
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("203.0.113.9", "http")


def test_chain_of_proxies(s: Server) -> None:
    """The proxy's own client may be a trusted proxy too: then its headers count."""
    environ = seen(s, get("/environ", ("REMOTE_ADDR", "127.0.0.1"), *SPOOFED[-3:]))
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("198.51.100.66", "https")
    assert "REMOTE_PORT" not in environ


def test_the_outer_proxy_says_the_scheme(s: Server) -> None:
    """Its client came without encryption, though it speaks to the inner proxy with it."""
    claims = [("HTTP_X_FORWARDED_FOR", "198.51.100.7"), ("HTTP_X_FORWARDED_PROTO", "http")]
    inner = [("REMOTE_ADDR", "127.0.0.1"), ("HTTPS", "on"), ("REQUEST_SCHEME", "https")]
    environ = seen(s, get("/environ", *inner, *claims))
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("198.51.100.7", "http")
    assert seen(s, get("/environ", *inner))["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize(
    "address, port, shown",
    [
        ("2001:DB8::1", "5", "2001:db8::1"),
        ("::ffff:192.0.2.3", "", "192.0.2.3"),
        ("unix:", "", "127.0.0.1"),
        ("", "", "127.0.0.1"),
        ("1.2.3", "1", None),
        ("evil", "1", None),
        ("1.2.3.4", "70000", None),
        ("1.2.3.4", "x", None),
        ("1.2.3.4\r\nX: y", "1", None),
    ],
)
def test_addresses(s: Server, address: str, port: str, shown: str | None) -> None:
    """An address is one, or the request is refused."""
    data = get("/environ", ("REMOTE_ADDR", address), ("REMOTE_PORT", port))
    if shown is None:
        assert ask(s, data).status == 400
    else:
        assert seen(s, data)["REMOTE_ADDR"] == shown


@pytest.mark.parametrize(
    "variables, scheme",
    [
        ({"HTTPS": "on"}, "https"),
        ({"HTTPS": "1"}, "https"),
        ({"HTTPS": "off"}, "http"),
        ({"HTTPS": ""}, "http"),
        ({"REQUEST_SCHEME": "https"}, "https"),
        ({"UWSGI_SCHEME": "https"}, "https"),
        ({"UWSGI_SCHEME": "http", "HTTPS": "on"}, "http"),
        ({"UWSGI_SCHEME": "gopher"}, "http"),
    ],
)
def test_schemes(s: Server, variables: dict[str, str], scheme: str) -> None:
    """UWSGI_SCHEME decides, then HTTPS or REQUEST_SCHEME."""
    assert seen(s, get("/environ", *variables.items()))["wsgi.url_scheme"] == scheme


def test_variables_that_are_no_names(s: Server) -> None:
    """Nothing replaces what is the server's."""
    names = [
        "wsgi.url_scheme",
        "wsgi.input",
        "myserver.peer",
        "X-Real-IP",
        "SERVER_SOFTWARE",
        "RAW_URI",
    ]
    environ = seen(s, get("/environ", *((name, "evil") for name in names), ("lower_1", "good")))
    assert "evil" not in environ.values()
    assert environ["lower_1"] == "good"


# ---- what is refused


def changed(*more: tuple[Text, Text], again: tuple[Text, Text] | None = None) -> bytes:
    """A usual packet, with other variables, or with one more at its end."""
    data = get("/echo", *more)[4:] + (packed([again]) if again else b"")
    return struct.pack("<BHB", 0, len(data), 0) + data


BAD = {
    "method": (400, changed(("REQUEST_METHOD", "GE T"))),
    "method with a line": (400, changed(("REQUEST_METHOD", "GET /x HTTP/1.1\r\nA:"))),
    "connect": (501, changed(("REQUEST_METHOD", "CONNECT"))),
    "header in lower case": (400, get("/", ("HTTP_x_a", "1"))),
    "header with a hyphen": (400, get("/", ("HTTP_X-A", "1"))),
    "uri": (400, changed(("REQUEST_URI", "/a b"))),
    "uri with newline": (400, changed(("REQUEST_URI", "/a\r\nX: y"))),
    "relative uri": (400, changed(("REQUEST_URI", "a"))),
    "star": (400, changed(("REQUEST_URI", "*"))),
    "query": (400, changed(("QUERY_STRING", "a b"))),
    "query with newline": (400, changed(("QUERY_STRING", "a\nb"))),
    "relative path": (400, changed(("PATH_INFO", "echo"))),
    "path with NUL": (400, changed(("PATH_INFO", "/echo\0.txt"))),
    "version": (505, changed(("SERVER_PROTOCOL", "HTTP/0.9"))),
    "no version": (400, changed(("SERVER_PROTOCOL", "INCLUDED"))),
    "long version": (400, changed(("SERVER_PROTOCOL", "HTTP/1.1 "))),
    "host": (400, changed(("HTTP_HOST", "a/b"))),
    "header with CR": (400, changed(("HTTP_A", "x\ry"))),
    "header with LF": (400, changed(("HTTP_A", "x\ny"))),
    "header with NUL": (400, changed(("HTTP_A", "x\0y"))),
    "name of a header": (400, changed(("HTTP_A B", "x"))),
    "name with a colon": (400, changed(("HTTP_A:", "x"))),
    "name with a newline": (400, changed(("A\nB", "x"))),
    "name with umlaut": (400, changed(("HTTP_\xfc", "x"))),
    "no name": (400, changed(("", "x"))),
    "no name of a header": (400, changed(("HTTP_", "x"))),
    "variable with LF": (400, changed(("EXTRA", "x\ny"))),
    "length": (400, changed(("CONTENT_LENGTH", "1x"))),
    "negative length": (400, changed(("CONTENT_LENGTH", "-1"))),
    "hexadecimal length": (400, changed(("CONTENT_LENGTH", "0x10"))),
    "two lengths": (400, changed(("CONTENT_LENGTH", "1, 1"))),
    "huge length": (413, changed(("CONTENT_LENGTH", "9" * 30))),
    "large body": (413, changed(("CONTENT_LENGTH", str(10**12)))),
    "long uri": (414, changed(("REQUEST_URI", "/" + "a" * 9000))),
    "long path": (414, changed(("PATH_INFO", "/" + "a" * 9000))),
    "long query": (414, changed(("QUERY_STRING", "a" * 9000))),
    "long header": (431, changed(("HTTP_A", "a" * 9000))),
    "long variable": (431, changed(("EXTRA", "a" * 9000))),
    "many headers": (431, changed(*((f"HTTP_A{i}", "") for i in range(150)))),
    "many variables": (431, changed(*((f"A{i}", "") for i in range(300)))),
    "second host": (400, changed(again=("HTTP_HOST", "other"))),
    "modifier1": (400, packet(("REQUEST_METHOD", "GET"), ("PATH_INFO", "/"), mark=(5, 0))),
    "modifier1 of a signal": (400, packet(("A", "b"), mark=(110, 0))),
    "modifier2": (400, packet(("REQUEST_METHOD", "GET"), ("PATH_INFO", "/"), mark=(0, 1))),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01"),
} | {
    f"second {name}": (400, changed(again=(name, "1")))
    for name in ("REQUEST_METHOD", "REQUEST_URI", "PATH_INFO", "QUERY_STRING", "CONTENT_LENGTH")
    + ("CONTENT_TYPE", "SERVER_PROTOCOL", "REMOTE_ADDR", "REQUEST_SCHEME")
}


# Of so many in a second each has its sentence.
SAID = 20


@pytest.mark.parametrize("first", range(0, len(BAD), SAID))
def test_refused(s: Server, first: int) -> None:
    """With the status that HTTP has for it, one sentence in the log, and nothing is run."""
    for name, (status, data) in list(BAD.items())[first : first + SAID]:
        begin = len(s.log)
        answer = ask(s, data)
        assert (answer.status, answer.get("Connection")) == (status, "close"), name
        sentence = rf"refused a request from \S+: {status} "
        assert s.log_contains(sentence, begin=begin), name
        wait_for(lambda begin=begin: lines(s, begin), what=f"the line of {name}")
        assert [line["status"] for line in lines(s, begin)] == [status], name


def test_lengths_that_disagree(s: Server) -> None:
    """Wherever the packet ends, its texts must end there."""
    good = get("/echo", ("HTTP_A", "b"))[4:]
    for data in (good[:-1], good[:-3], good + b"\0", good + b"\1\0", good + b"\1\0a\xff\xff"):
        whole = struct.pack("<BHB", 0, len(data), 0) + data
        assert ask(s, whole).status == 400
    assert s.log_contains("400 lengths in a uwsgi packet disagree")


def test_large_packets(server: Start) -> None:
    """As large as the format has it, if the limits allow."""
    more = [(f"HTTP_A{i}", "x" * 6000) for i in range(10)]
    s = server("cases", binds=[BINDS["unix"]])
    assert seen(s, get("/environ", *more))["HTTP_A9"] == "x" * 6000
    more = [(f"HTTP_A{i}", "x" * 6000) for i in range(11)]
    room = 65535 - (len(get("/environ", *more[:-1])) - 4)
    more[-1] = ("HTTP_A10", "x" * (room - len("HTTP_A10") - 4))
    assert ask(s, get("/environ", *more)).status == 431


def test_headers_about_the_body(s: Server) -> None:
    """Those of the client do not count: the proxy has taken its chunks apart."""
    more = [("HTTP_CONTENT_LENGTH", "99"), ("HTTP_TRANSFER_ENCODING", "chunked")]
    more += [("HTTP_EXPECT", "100-continue"), ("HTTP_CONTENT_TYPE", "evil/evil")]
    more += [("CONTENT_TYPE", "text/good")]
    assert ask(s, get("/echo", *more, body=b"body")).body == b"POST  body"
    environ = seen(s, get("/environ", *more, body=b"body"))
    assert (environ["CONTENT_LENGTH"], environ["CONTENT_TYPE"]) == ("4", "text/good")
    assert not [key for key in environ if key in dict(more[:4])]


def test_repeated_headers(s: Server) -> None:
    """As in HTTP, they are one list; cookies have a separator of their own."""
    data = packed([("REQUEST_METHOD", "GET"), ("PATH_INFO", "/environ"), ("HTTP_A", "1")])
    data += packed([("HTTP_COOKIE", "a=1"), ("HTTP_A", "2"), ("HTTP_COOKIE", "b=2")])
    environ = seen(s, struct.pack("<BHB", 0, len(data), 0) + data)
    assert (environ["HTTP_A"], environ["HTTP_COOKIE"]) == ("1,2", "a=1; b=2")


# ---- the wrong protocol


def test_http_to_uwsgi(s: Server) -> None:
    """The client and the log are told."""
    answer = ask(s, request("GET", "/"))
    assert (answer.status, answer.get("Connection")) == (400, "close")
    assert "HTTP where uwsgi is spoken" in answer.text
    assert s.log_contains(
        r"refused a request from 127\.0\.0\.1: 400 HTTP where uwsgi is spoken; nginx needs "
        r"uwsgi_pass instead of proxy_pass, or bind must have no uwsgi: before its address"
    )


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:app.sock"], ids=["tcp", "unix"])
def test_uwsgi_to_http(server: Start, bind: str) -> None:
    """The same the other way round; nginx passes the page on."""
    s = server("cases", binds=[bind], **ACCESS)
    answer = ask(s, get("/"))
    assert (answer.status, answer.get("Connection")) == (400, "close")
    assert "uwsgi where HTTP is spoken" in answer.text
    assert s.log_contains(
        r"refused a request from 127\.0\.0\.1: 400 uwsgi where HTTP is spoken; nginx needs "
        r"proxy_pass instead of uwsgi_pass, or bind needs uwsgi: before its address"
    )
    assert s.get("/").status == 200


# ---- time


def test_half_a_packet(server: Start) -> None:
    """It has header-timeout, then body-timeout; nobody gets an answer, and the log has a line."""
    s = server("cases", binds=[BINDS["unix"]], header_timeout="3s", body_timeout="3s", **ACCESS)
    whole = get("/echo", body=b"body")
    cuts = (1, 3, 4, 5, 60, len(whole) - 5, len(whole) - 4, len(whole) - 1)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(s)).send(whole[:cut]) for cut in cuts]
        assert all(wire.answer().status in (0, 408) for wire in wires)
    wait_for(lambda: len(lines(s)) == len(cuts))
    assert ask(s, whole).status == 200
    wait_for(lambda: len(lines(s)) == len(cuts) + 1)
    ends = [line["end"] for line in lines(s)]
    assert ends.pop() is None
    assert Counter(ends) == {"header timeout": 6, "body timeout": 2}


def test_clients_that_leave(s: Server) -> None:
    """In the middle of a packet: nothing is run."""
    whole = get("/echo", body=b"body")
    for cut in (1, 4, 60, len(whole) - 1):
        with Wire(s) as wire:
            wire.send(whole[:cut])
    assert ask(s, whole).status == 200
    wait_for(lambda: len(lines(s)) == 5)
    assert sorted(str(line["status"]) for line in lines(s)) == ["200"] + ["499"] * 4


# ---- listeners


def test_both_protocols(server: Start) -> None:
    """Listeners beside each other speak what each was told."""
    s = server("cases", workers=2, binds=["127.0.0.1:0", BINDS["tcp"], BINDS["unix"]])
    http_name, tcp_name, unix_name = s.names
    assert tcp_name.startswith("uwsgi:127.0.0.1:") and unix_name == "uwsgi:unix:app.sock"
    for _ in range(5):
        assert s.get("/").status == 200
        for name in (tcp_name, unix_name):
            with Wire(s, name=name) as wire:
                assert wire.send(get("/hello")).answer().body == b"hello"
    assert s.log_contains(rf"ready: http://{http_name}/, {tcp_name}, {unix_name} ")


def test_reload_and_upgrade(server: Start) -> None:
    """The protocol stays."""
    s = server("cases", binds=[BINDS["tcp"], BINDS["unix"]], graceful_timeout="5s")

    def all_answer() -> None:
        for name in s.names:
            with Wire(s, name=name) as wire:
                assert wire.send(get("/hello")).answer().body == b"hello"

    s.signal(signal.SIGHUP)
    assert s.log_contains("reloaded: ", 20)
    all_answer()
    new = upgrade(s)
    all_answer()
    end(s, new)


def test_socket_activation(server: Start, tmp_path: Path) -> None:
    """Sockets of a unit with FileDescriptorName=uwsgi take packets, also after an upgrade."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "sock"))
        unix.listen()
        host, port = tcp.getsockname()
        s = server("cases", start=False, binds=["127.0.0.1:1"])
        with activated(s, [unix, tcp], ("uwsgi", "web.socket")):
            assert s.names == [f"{host}:{port}", f"uwsgi:unix:{tmp_path}/sock"]

            def both_answer() -> None:
                assert s.get("/").status == 200
                with Wire(s, name=s.names[1]) as wire:
                    assert wire.send(get("/hello")).answer().body == b"hello"

            both_answer()
            new = upgrade(s)
            both_answer()
            end(s, new)


def test_upgrade_to_the_other_protocol(server: Start) -> None:
    """The next master takes the same sockets, and speaks what its settings say."""
    ini = "[myserver]\napp = cases\nbind = %sunix:app.sock\nbind = unix:other.sock\n"
    s = server("cases", start=False, binds=[])
    (s.dir / "it.ini").write_text(ini % "")
    s.command += ["--config=it.ini"]
    s.start()
    (s.dir / "it.ini").write_text(ini % "uwsgi:")
    new = upgrade(s)
    with Wire(s, name="unix:app.sock") as wire:
        assert wire.send(get("/hello")).answer().body == b"hello"
    with Wire(s, name="unix:other.sock") as wire:
        assert wire.ask("/hello").body == b"hello"
    end(s, new)


WRONG = ["uwsgi:unix:", "uwsgi:/run/a.sock", "uwsgi:uwsgi:127.0.0.1:1", "http:127.0.0.1:1"]


@pytest.mark.parametrize("bind", ["uwsgi:", *WRONG])
def test_malformed_binds(server: Start, bind: str) -> None:
    """They are told as they were written."""
    s = server("cases", start=False, binds=[bind], expect_status=2)
    with pytest.raises(StartFailed):
        s.start()
    assert f"{bind} is none of HOST:PORT" in s.log


def test_same_address(server: Start) -> None:
    """One address has one protocol."""
    s = server("cases", start=False, binds=["unix:a.sock", "uwsgi:unix:a.sock"], expect_status=2)
    with pytest.raises(StartFailed):
        s.start()
    assert "is the address of another bind already" in s.log


def test_no_proxy_protocol(server: Start) -> None:
    """The two cannot be on one connection."""
    s = server("cases", start=False, binds=[BINDS["tcp"]], proxy_protocol="v1", expect_status=2)
    with pytest.raises(StartFailed):
        s.start()
    assert "a PROXY header cannot come before uwsgi packets" in s.log


def test_static_files(server: Start) -> None:
    """They are found by the path that PATH_INFO says, and know the headers."""
    s = server("cases", start=False, binds=[BINDS["unix"]], static="/static=files")
    (s.dir / "files").mkdir()
    (s.dir / "files" / "a b.txt").write_text("0123456789")
    s.start()
    assert ask(s, get("/static/a%20b.txt", ("PATH_INFO", "/static/a b.txt"))).text == "0123456789"
    moved = get("/old", ("PATH_INFO", "/static/a b.txt"), ("HTTP_RANGE", "bytes=2-4"))
    answer = ask(s, moved)
    assert (answer.status, answer.text) == (206, "234")
    # what the proxy has decoded is a name with an escape in it, which is not there
    twice = get("/static/a%2520b.txt", ("PATH_INFO", "/static/a%20b.txt"))
    assert ask(s, twice).status == 404


# ---- nginx


@pytest.fixture
def front(s: Server, nginx: Callable[..., str]) -> Iterator[http.client.HTTPConnection]:
    """A browser at nginx."""
    parts = urlsplit(nginx(s, keepalive=False, uwsgi=True, extra="uwsgi_param EXTRA yes;"))
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    yield connection
    connection.close()


def through(
    front: http.client.HTTPConnection, method: str, target: str, **options: object
) -> tuple[int, bytes]:
    """One request through nginx."""
    front.request(method, target, **options)  # type: ignore[arg-type]
    response = front.getresponse()
    return response.status, response.read()


def test_nginx_environ(front: http.client.HTTPConnection) -> None:
    """What nginx sends is understood."""
    headers = {"X-Forwarded-For": "198.51.100.7", "User-Agent": "browser"}
    status, body = through(front, "GET", "/environ/%C3%BC%20b%2525?a=%20b", headers=headers)
    environ = {key: value for key, (_, value) in json.loads(body).items()}
    assert status == 200
    assert environ["PATH_INFO"] == "/environ/\xc3\xbc b%25"
    assert environ["QUERY_STRING"] == "a=%20b"
    assert environ["REQUEST_URI"] == "/environ/%C3%BC%20b%2525?a=%20b"
    assert environ["REMOTE_ADDR"] == "198.51.100.7"  # 127.0.0.1 is a trusted proxy
    assert (environ["HTTP_USER_AGENT"], environ["EXTRA"]) == ("browser", "yes")
    assert environ["HTTP_HOST"].startswith("127.0.0.1")
    assert not {"CONTENT_TYPE", "CONTENT_LENGTH"} & set(environ)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_nginx_upload(front: http.client.HTTPConnection, chunked: bool) -> None:
    """A large body, with a length or in chunks."""
    body = os.urandom(3_000_000)
    sent = (body[i : i + 50_000] for i in range(0, len(body), 50_000)) if chunked else body
    status, got = through(front, "POST", "/echo?up", body=sent, encode_chunked=chunked)
    assert status == 200
    assert hashlib.sha256(got).digest() == hashlib.sha256(b"POST up " + body).digest()


def test_nginx_answers(front: http.client.HTTPConnection, s: Server) -> None:
    """Streams, HEAD and errors arrive whole; the browser's connection is kept."""
    let(s, "go")
    for _ in range(3):
        status, body = through(front, "GET", "/steps?go")
        assert status == 200 and body and b"\r\n" not in body
        assert through(front, "HEAD", "/hello") == (200, b"")
        assert through(front, "GET", "/hello") == (200, b"hello")
        assert through(front, "GET", "/no-such-case")[0] == 500


def test_nginx_with_the_wrong_protocol(server: Start, nginx: Callable[..., str]) -> None:
    """The operator reads in the page, and in the log, what to change."""
    for bind, uwsgi in ((BINDS["unix"], False), ("unix:app.sock", True)):
        s = server("cases", binds=[bind])
        parts = urlsplit(nginx(s, keepalive=False, uwsgi=uwsgi))
        assert parts.hostname
        front = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        status, body = through(front, "GET", "/")
        front.close()
        assert status == 400 and b"is spoken; nginx needs" in body
        assert s.log_contains("is spoken; nginx needs")
