"""PEP 3333 through the real program: what the application gets, and what it may do."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from harness import Server, wait_for
from wire import Answer, Wire, ask, chunked, let, request

Start = Callable[..., Server]

BINDS = {"tcp-1": ("127.0.0.1:0", 1), "unix-4": ("unix:app.sock", 4)}


@pytest.fixture(scope="module", params=BINDS, ids=str)
def site(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server for most tests: what one request does must not harm the next."""
    bind, threads = BINDS[request.param]
    with Server("cases", binds=[bind], threads=threads, body_buffer="8k") as server:
        worker = server.workers()
        yield server
        assert server.workers() == worker, server.log
        assert server.stop() == 0
        problems, log = server.problems(), server.log
    assert not problems, log
    assert "AssertionError" not in log and "WSGIWarning" not in log, log
    assert "garbage collected without" not in log, log


def is_tcp(site: Server) -> bool:
    """Whether the first listener is not a unix socket."""
    return not isinstance(site.address, str)


def events(site: Server, text: str) -> int:
    """How often an application said this."""
    return site.log.count(f"event: {text}\n")


def saw(site: Server, text: str) -> bool:
    """Wait for an application to say something."""
    return bool(wait_for(lambda: events(site, text), what=f"event {text}"))


def unique(name: str) -> str:
    """A name that no other request has."""
    unique.count += 1  # type: ignore[attr-defined]
    return f"{name}{unique.count}"  # type: ignore[attr-defined]


unique.count = 0  # type: ignore[attr-defined]


def assert_failed(site: Server, asking: Callable[[], Answer], error: str) -> Answer:
    """A request that gets a whole 500 that tells nothing, and whose log tells all."""
    begin = len(site.log)
    answer = asking()
    assert (answer.status, answer.complete) == (500, True), answer
    assert "Internal Server Error" in answer.text
    for secret in ("Traceback", "Error:", "secret", "myserver", ".py"):
        assert secret not in answer.text
    assert site.log_contains(error, begin=begin), site.log[begin:]
    return answer


# ---- environ


def test_environ(site: Server) -> None:
    """Every key, its type and its value."""
    answer = ask(
        site,
        "/environ/caf%C3%A9/a%2Fb//c/../%zz?q=%20&r",
        "Host: example.org:81",
        "X-Latin: caf\xe9",
        "Content-Type: text/x",
        method="POST",
        body=b"12345",
    )
    seen = answer.json()
    target = "/environ/caf%C3%A9/a%2Fb//c/../%zz?q=%20&r"
    expected = {
        "type": ["dict", seen["type"][1]],
        "REQUEST_METHOD": ["str", "POST"],
        "SCRIPT_NAME": ["str", ""],
        "PATH_INFO": ["str", "/environ/caf\xc3\xa9/a/b//c/../%zz"],
        "QUERY_STRING": ["str", "q=%20&r"],
        "REQUEST_URI": ["str", target],
        "RAW_URI": ["str", target],
        "SERVER_PROTOCOL": ["str", "HTTP/1.1"],
        "REMOTE_ADDR": ["str", "127.0.0.1"],
        "CONTENT_TYPE": ["str", "text/x"],
        "CONTENT_LENGTH": ["str", "5"],
        "HTTP_HOST": ["str", "example.org:81"],
        "HTTP_X_LATIN": ["str", "caf\xe9"],
        "wsgi.version": ["tuple", "(1, 0)"],
        "wsgi.url_scheme": ["str", "http"],
        "wsgi.multithread": ["bool", str(not is_tcp(site))],
        "wsgi.multiprocess": ["bool", "True"],
        "wsgi.run_once": ["bool", "False"],
        "wsgi.input_terminated": ["bool", "True"],
    }
    for key, value in expected.items():
        assert seen[key] == value, key
    if is_tcp(site):
        assert seen["SERVER_NAME"][1] == "127.0.0.1"
        assert seen["SERVER_PORT"] == ["str", str(site.port)]
        assert int(seen["REMOTE_PORT"][1]) > 0
    else:
        assert (seen["SERVER_NAME"][1], seen["SERVER_PORT"][1]) == ("example.org", "81")
        assert "REMOTE_PORT" not in seen
    assert seen["SERVER_SOFTWARE"][1].startswith("myserver/")
    assert {"wsgi.input", "wsgi.errors", "wsgi.file_wrapper"} < set(seen)
    assert not {key for key in seen if key.isupper() and key.startswith("HTTP_CONTENT")}


def test_environ_is_fresh(site: Server) -> None:
    """What an application does to it ends with the request; so does a request's body."""
    with Wire(site) as wire:
        wire.ask("/environ", "X-Mine: 1", "Content-Type: a", method="POST", body=b"x")
        seen = wire.ask("/environ").json()
    assert seen["wsgi.url_scheme"][1] == "http"
    for key in ("SPOILT", "HTTP_X_MINE", "CONTENT_TYPE", "CONTENT_LENGTH"):
        assert key not in seen
    assert seen["QUERY_STRING"] == ["str", ""]


@pytest.mark.parametrize(
    "target, path", [("/environ//x", "/environ//x"), ("/environ?", "/environ")]
)
def test_path_is_kept(site: Server, target: str, path: str) -> None:
    """Nothing is normalized."""
    assert ask(site, target).json()["PATH_INFO"][1] == path


def test_environ_of_other_requests(site: Server) -> None:
    """HEAD, OPTIONS, an old client, a chunked body, an absolute target."""
    with Wire(site) as wire:
        wire.request("OPTIONS", "/environ")
        assert wire.answer().json()["REQUEST_METHOD"][1] == "OPTIONS"
        assert wire.ask("http://h.example:8080/environ").json()["PATH_INFO"][1] == "/environ"
        wire.request("POST", "/environ", chunked(b"abc", 1), "Transfer-Encoding: chunked")
        seen = wire.answer().json()
        assert seen["CONTENT_LENGTH"] == ["str", "3"]
        assert "HTTP_TRANSFER_ENCODING" not in seen
        seen = wire.request("GET", "/environ HTTP/1.0").answer().json()
        assert seen["SERVER_PROTOCOL"][1] == "HTTP/1.0"


def test_script_name(server: Start) -> None:
    """The application lives below it; its log and its errors know the whole path."""
    s = server("cases", script_name="/shop")
    seen = ask(s, "/shop/environ/a%2Fb").json()
    assert (seen["SCRIPT_NAME"][1], seen["PATH_INFO"][1]) == ("/shop", "/environ/a/b")
    assert seen["RAW_URI"][1] == "/shop/environ/a%2Fb"
    assert ask(s, "/%73hop/environ").json()["SCRIPT_NAME"][1] == "/shop"
    assert ask(s, "/shop").status != 404
    for other in ("/", "/shopping", "/SHOP/environ", "/x/shop"):
        assert ask(s, other).status == 404, other


def test_script_name_of_other_letters(server: Start) -> None:
    """Bytes as Latin-1, as all of the environ (PEP 3333)."""
    s = server("cases", script_name="/é")
    seen = ask(s, "/%C3%A9/environ").json()
    assert seen["SCRIPT_NAME"][1].encode("latin-1").decode() == "/é"


def test_errors_stream(site: Server) -> None:
    """wsgi.errors takes any text."""
    assert ask(site, "/errors").text == "ok"
    assert saw(site, "first line") and saw(site, "second line")
    assert "event: surrogate \\udce9 emoji \U0001f40d nul-free\n" in site.log


# ---- input

BODY = "first|second||a longer third line|no newline"
WAYS = (
    "read read-1 read-none read0 read7 read-more readline readline-1 readline-none readline0 "
    "readline3 readlines readlines-none readlines-hint iterate mixed end"
).split()


@pytest.mark.parametrize("way", WAYS)
def test_input(site: Server, way: str) -> None:
    """Every way to read gives what io.BytesIO gives, with a length and chunked."""
    body = BODY.encode().replace(b"|", b"\n")
    with Wire(site) as wire:
        wire.request("POST", f"/reads?{way}", body, f"X-Body: {BODY}")
        seen = wire.answer().json()
        assert seen["given"] == seen["expected"]
        lines = (f"X-Body: {BODY}", "Transfer-Encoding: chunked")
        seen = wire.request("POST", f"/reads?{way}", chunked(body, 5), *lines).answer().json()
        assert seen["given"] == seen["expected"]


@pytest.mark.parametrize("way", ["read", "read7", "readline", "readlines", "iterate", "end"])
def test_input_of_no_body(site: Server, way: str) -> None:
    """Without a body there is nothing to read, ever."""
    seen = ask(site, f"/reads?{way}", "X-Body: ").json()
    assert seen["given"] == seen["expected"]


@pytest.mark.parametrize("way", ["text", "float", "two", "huge", "lines"])
def test_input_wrong_argument(site: Server, way: str) -> None:
    """A wrong argument raises and reads nothing."""
    answer = ask(site, f"/reads?{way}", method="POST", body=b"body")
    assert answer.text.startswith("raised "), answer


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_input_from_a_file(site: Server, framing: str) -> None:
    """A body beyond body-buffer, with lines longer and shorter than any block."""
    body = b"".join(b"x" * (i * 37 % 9001) + b"\n" for i in range(1000))
    with Wire(site) as wire:
        if framing == "length":
            wire.request("POST", "/lines", body)
        else:
            wire.request("POST", "/lines", chunked(body, 70_001), "Transfer-Encoding: chunked")
        assert wire.answer().text == f"1000 {len(body)} {len(body)}"
        wire.request("POST", "/lines", b"a\nb")
        assert wire.answer().text == "2 3 3"


def test_input_after_its_request(site: Server) -> None:
    """What an application keeps raises later, and harms nobody."""
    with Wire(site) as wire:
        wire.ask("/keep_input", method="POST", body=b"mine")
        said = wire.ask("/use_kept", method="POST", body=b"yours").json()
        assert wire.is_open()
    reads = {name: said[name] for name in ("read", "readline", "readlines", "next")}
    assert set(reads.values()) == {"raised ValueError"}
    assert said["start_response"] == said["write"] == "raised RuntimeError"


# ---- start_response and write()


def test_start_response_twice(site: Server) -> None:
    """Without exc_info that is an error."""
    answer = ask(site, "/twice")
    assert (answer.status, answer.text) == (200, "raised RuntimeError")


@pytest.mark.parametrize("first", ["value", "type", "status", "exc_info", "exc_info_late"])
def test_start_response_that_raised_was_called(site: Server, first: str) -> None:
    """So the next call needs exc_info, as after one that worked; with it, all is well."""
    answer = ask(site, f"/twice_after_error?{first}")
    assert (answer.status, answer.text) == (404, "raised RuntimeError")
    assert_failed(site, lambda: ask(site, "/failed_start"), "start_response was not called")


@pytest.mark.parametrize("case", ["replaced", "replaced_by_keyword", "replaced_late"])
def test_head_is_replaced(site: Server, case: str) -> None:
    """With exc_info and nothing sent, status and all headers are."""
    answer = ask(site, f"/{case}")
    assert (answer.status, answer.reason, answer.text) == (404, "Not Found", "gone")
    assert answer.get("X-Old") is None
    assert answer.complete


def test_exc_info_after_output(site: Server) -> None:
    """The exception itself is raised again, and the client can tell."""
    answer = ask(site, "/too_late")
    assert (answer.status, answer.body, answer.complete) == (200, b"begun", False)
    assert saw(site, "the same: True.")


def test_exc_info_without_exception(site: Server) -> None:
    """What is no exception raises another one."""
    answer = ask(site, "/no_exception")
    assert answer.complete
    assert [word for word in answer.text.split() if word.endswith("Error")] == [
        "TypeError",
        "TypeError",
        "TypeError",
        "TypeError",
        "TypeError",
    ]


def test_write_without_head(site: Server) -> None:
    """After a start_response that failed there is no head that could be sent."""
    assert_failed(site, lambda: ask(site, "/bad_replacement"), "RuntimeError")
    assert saw(site, "write raised RuntimeError.")


def test_start_response_fails_after_its_request(site: Server) -> None:
    """On a thread of the application: it touches neither what is gone nor the next request."""
    with Wire(site) as wire:
        assert wire.ask("/fails_elsewhere").complete
        answer = wire.ask("/fails_at_last")
        assert (answer.status, answer.text) == (200, "raised TypeError")
        assert answer.get("X-Mine") == "1"
        assert wire.is_open()


BAD_HEADS = {
    "status number": "(200, [])",
    "status bytes": "(b'200 OK', [])",
    "status empty": "('', [])",
    "status bare": "('200', [])",
    "status without blank": "('200OK', [])",
    "status long": "('2000 OK', [])",
    "status letters": "('abc OK', [])",
    "status 100": "('100 Continue', [])",
    "status 101": "('101 Switching Protocols', [])",
    "status 600": "('600 What', [])",
    "status CRLF": "('200 OK\\r\\nX-Forged: 1', [])",
    "status NUL": "('200 OK\\0', [])",
    "status snake": "('200 \U0001f40d', [])",
    "headers tuple": "('200 OK', (('a', 'b'),))",
    "headers None": "('200 OK', None)",
    "header list": "('200 OK', [['a', 'b']])",
    "header one": "('200 OK', [('a',)])",
    "header text": "('200 OK', ['ab'])",
    "name bytes": "('200 OK', [(b'a', 'b')])",
    "name empty": "('200 OK', [('', 'b')])",
    "name blank": "('200 OK', [('a b', 'c')])",
    "name colon": "('200 OK', [('a:', 'c')])",
    "name CRLF": "('200 OK', [('a\\r\\nb', 'c')])",
    "name latin": "('200 OK', [('\\xe9', 'c')])",
    "value bytes": "('200 OK', [('a', b'b')])",
    "value number": "('200 OK', [('a', 1)])",
    "value None": "('200 OK', [('a', None)])",
    "value CRLF": "('200 OK', [('a', 'b\\r\\nX-Forged: 1')])",
    "value LF": "('200 OK', [('a', 'b\\nX-Forged: 1')])",
    "value CR": "('200 OK', [('a', 'b\\rc')])",
    "value NUL": "('200 OK', [('a', 'b\\0c')])",
    "value ESC": "('200 OK', [('a', '\\x1b[1m')])",
    "value euro": "('200 OK', [('a', '\\u20ac')])",
    "length negative": "('200 OK', [('Content-Length', '-1')])",
    "length plus": "('200 OK', [('Content-Length', '+4')])",
    "length empty": "('200 OK', [('Content-Length', '')])",
    "length text": "('200 OK', [('Content-Length', '4x')])",
    "length blank": "('200 OK', [('Content-Length', '4 ')])",
    "length huge": "('200 OK', [('Content-Length', '9' * 30)])".replace(
        "'9' * 30", f"'{'9' * 30}'"
    ),
    "length twice": "('200 OK', [('Content-Length', '4'), ('content-length', '4')])",
    "no headers": "('200 OK',)",
    "four": "('200 OK', [], None, 1)",
    **{
        f"hop {name}": f"('200 OK', [('{name}', 'x')])"
        for name in (
            "Connection keep-alive TRANSFER-ENCODING te Trailer Upgrade Proxy-Authenticate "
            "Proxy-Connection"
        ).split()
    },
}


@pytest.mark.parametrize("spec", BAD_HEADS.values(), ids=BAD_HEADS)
def test_bad_head(site: Server, spec: str) -> None:
    """Raises at the call; the client gets a 500 and nothing of what was forged."""
    with Wire(site) as wire:
        answer = assert_failed(site, lambda: wire.ask("/bad?" + quote(spec)), "in bad")
        assert answer.get("X-Forged") is None
        assert wire.is_open()


def test_good_heads(site: Server) -> None:
    """What only looks strange is allowed."""
    headers = [
        ("X-A", "a\tb"),
        ("x-a", "caf\xe9"),
        ("!#$%&'*+-.^_`|~9z", ""),
        ("Set-Cookie", "a=1"),
    ]
    answer = ask(site, "/header?" + quote(repr(headers + [("Set-Cookie", "b=2")])))
    assert answer.status == 200
    assert answer.all("X-A") == ["a\tb", "caf\xe9"]
    assert answer.all("Set-Cookie") == ["a=1", "b=2"]
    assert answer.get("!#$%&'*+-.^_`|~9z") == ""
    assert ask(site, "/bad?" + quote("('299 Caf\\xe9  au lait', [])")).reason == "Caf\xe9  au lait"


def test_write(site: Server) -> None:
    """It goes out before the iterable, in order, of any size, and not past the length."""
    assert ask(site, "/writes").text == "one two three four"
    body = ask(site, "/writes_big").body
    assert (
        hashlib.sha1(body).digest()
        == hashlib.sha1(b"".join(bytes([letter]) * (1 << 20) for letter in b"abc")).digest()
    )
    with Wire(site) as wire:
        assert wire.ask("/writes_past").text == "abcde"
        assert saw(site, "write raised ValueError.")
        assert wire.is_open()
        assert_failed(site, lambda: wire.ask("/writes_text"), "TypeError")


def test_write_in_close(site: Server) -> None:
    """Nothing follows the end of the body."""
    with Wire(site) as wire:
        answer = wire.ask("/writes_when_closed")
        assert (answer.text, answer.complete) == ("one two", True)
        assert wire.ask("/echo?next").text == "GET next "
    assert events(site, "late: raised RuntimeError.") == 2


# ---- streaming


@pytest.mark.parametrize("case", ["steps", "writes_in_steps"])
def test_each_block_arrives_before_the_next(site: Server, case: str) -> None:
    """The application makes the second block only when the client has seen the first."""
    name = unique("step")
    with Wire(site) as wire:
        wire.request("GET", f"/{case}?{name}")
        assert wire.head().get("Transfer-Encoding") == "chunked"
        assert wire.chunk() == b"first"
        let(site, name)
        assert wire.chunk() == b"second"
        assert wire.chunk() == b""
        assert wire.is_open()


def test_blocks_for_an_old_client(site: Server) -> None:
    """The same without chunks: the end of the connection is the end of the body."""
    name = unique("step")
    with Wire(site) as wire:
        wire.request("GET", f"/steps?{name} HTTP/1.0")
        head = wire.head()
        assert head.get("Transfer-Encoding") is None and head.get("Content-Length") is None
        assert wire.stream.read(5) == b"first"
        let(site, name)
        assert wire.stream.read() == b"second"


# ---- close()

ENDINGS = {
    # kind: status, body, whole
    "normal": (200, b"onetwo", True),
    "empty": (200, b"", True),
    "fails-first": (500, None, True),
    "fails-in-iter": (500, None, True),
    "fails-late": (200, b"one", False),
    "fails-short": (200, b"one", False),
    "not-bytes": (200, b"one", False),
    "no-content": (204, b"", True),
    "reset-content": (205, b"", True),
    "not-modified": (304, b"", True),
    "length": (200, b"onetwo", True),
    "long": (200, b"onet", True),
    "short": (200, b"onetwo", False),
    "close-fails": (200, b"onetwo", True),
}


@pytest.mark.parametrize("kind", ENDINGS)
@pytest.mark.parametrize("how", ["GET", "HEAD", "1.0"])
def test_close_is_called_once(site: Server, kind: str, how: str) -> None:
    """However a body ends; and the client sees how."""
    status, body, whole = ENDINGS[kind]
    name = unique(kind)
    target = f"/closing/{kind}?{name}" + (" HTTP/1.0" if how == "1.0" else "")
    method = "HEAD" if how == "HEAD" else "GET"
    with Wire(site) as wire:
        answer = wire.ask(target, method=method)
        if how == "1.0" and not answer.complete and is_tcp(site):
            assert answer.reset or answer.get("Content-Length"), answer
        elif how != "HEAD" and not (how == "1.0" and not whole):
            assert (answer.status, answer.complete) == (status, whole), answer
            assert body is None or answer.body == body
        if how == "GET" and whole:
            assert wire.is_open()
    assert saw(site, f"closed {name}.")
    assert ask(site, "/").status == 200
    assert events(site, f"closed {name}.") == 1


def test_close_in_validator(site: Server) -> None:
    """The validator agrees for GET and HEAD."""
    for method in ("GET", "HEAD"):
        name = unique("valid")
        with Wire(site) as wire:
            assert wire.ask(f"/closing_valid?{name}", method=method).status == 200
            assert wire.is_open()
        assert events(site, f"closed {name}.") == 1


def test_close_when_the_client_of_a_silent_body_goes(site: Server) -> None:
    """Nothing is sent to him, so that no error tells; others wait for the thread."""
    name = unique("silent")
    with Wire(site) as wire:
        wire.request("GET", f"/closing/silent?{name}")
        assert saw(site, f"generator {name} began.")
    assert saw(site, f"closed {name}.")
    assert ask(site, "/").status == 200
    assert not events(site, f"generator {name} found nothing.")


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_close_when_the_client_goes(site: Server, version: str) -> None:
    """A client that leaves in the middle ends the generator, once."""
    name = unique("endless")
    with Wire(site) as wire:
        wire.request("GET", f"/closing/endless?{name} HTTP/{version}")
        assert wire.head().status == 200
        wire.stream.read(100_000)
    assert saw(site, f"generator {name} ended.")
    assert saw(site, f"closed {name}.")
    assert ask(site, "/").status == 200
    assert events(site, f"closed {name}.") == 1


def test_close_when_the_worker_stops(server: Start) -> None:
    """A stop waits for the body, and for its close()."""
    s = server("cases")
    with Wire(s) as wire:
        wire.request("GET", "/slow_close?mine")
        wire.head()
        assert wire.chunk() == b"first"
        s.signal(15)
        assert s.log_contains("draining")
        let(s, "mine")
        assert (wire.chunk(), wire.chunk()) == (b"second", b"")
    assert s.wait() == 0
    assert events(s, "closed mine.") == 1


def test_failing_close_is_logged(site: Server) -> None:
    """With its traceback."""
    ask(site, f"/closing/close-fails?{unique('logged')}")
    assert site.log_contains(r"GET /closing/close-fails: .*close\(\)")
    assert "ValueError: close broke" in site.log


def test_wrong_length_is_logged(site: Server) -> None:
    """Too much and too little, with method and path."""
    for kind, word in (("long", "more"), ("short", "less")):
        ask(site, f"/closing/{kind}?{unique(kind)}")
        assert site.log_contains(rf"GET /closing/{kind}: the application sent {word} than")


# ---- wrong answers


@pytest.mark.parametrize(
    "kind",
    "none number text bytes object list-of-text list-of-number list-of-none bytearray".split(),
)
def test_bad_return_value(site: Server, kind: str) -> None:
    """What is no iterable of bytes is a 500."""
    with Wire(site) as wire:
        assert_failed(site, lambda: wire.ask(f"/returns?{kind}"), "TypeError")
        assert wire.is_open()


@pytest.mark.parametrize("kind", ["body", "nothing"])
def test_no_start_response(site: Server, kind: str) -> None:
    """A body without a head is a 500."""
    assert_failed(site, lambda: ask(site, f"/silent?{kind}"), "start_response was not called")


EXCEPTIONS = (
    "SystemExit KeyboardInterrupt GeneratorExit RecursionError StopIteration MemoryError "
    "BaseException ValueError"
).split()


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_uncaught_exception(site: Server, name: str) -> None:
    """Whatever it is: a 500, a traceback with method and path, and the worker lives."""
    where = unique("x")
    assert_failed(
        site,
        lambda: ask(site, f"/raises/{where}?{name}", method="POST", body=b"x"),
        rf"\[error\] worker 1 \(\d+\): POST /raises/{where}: uncaught exception.*\n"
        rf"  Traceback \(most recent call last\):\n(  .*\n)*  {name}",
    )
    if name != "StopIteration":  # that is how an iterator ends
        assert_failed(site, lambda: ask(site, f"/raises_in_body?{name}"), name)


def test_no_exception_forges_the_log(site: Server) -> None:
    """Its text may have lines of its own, but none looks like a record."""
    begin = len(site.log)
    ask(site, "/raises?ValueError")
    assert site.log_contains(r"^  ValueError: the secret .*udce9", begin=begin)
    assert not re.search(r"^2026-01-01 \[info\] forged", site.log, re.M)


# ---- what the server adds


def test_head_of_an_answer(site: Server) -> None:
    """Date and Server once, the application's if it has them; a length where it is known."""
    answer = ask(site, "/")
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.get("Date") or "")
    assert answer.get("Server") == "myserver"
    assert answer.get("Content-Length") == "5"
    assert answer.get("Connection") is None
    own = [("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("server", "mine"), ("Content-Length", "4")]
    answer = ask(site, "/header?" + quote(repr(own)))
    assert [answer.get("Date"), answer.get("Server")] == [own[0][1], "mine"]
    assert answer.get("Content-Length") == "4"


def test_head_request(site: Server) -> None:
    """The headers of a GET without its body, and the next request is understood."""
    with Wire(site) as wire:
        assert wire.ask("/", method="HEAD").get("Content-Length") == "5"
        assert (
            wire.ask("/header?" + quote("[('Content-Length', '77')]"), method="HEAD").get(
                "Content-Length"
            )
            == "77"
        )
        assert wire.ask("/file?plain", method="HEAD").get("Content-Length") == "31"
        head = wire.ask(f"/closing/normal?{unique('h')}", method="HEAD")
        assert head.get("Transfer-Encoding") is None
        assert wire.ask("/raises?ValueError", method="HEAD").status == 500
        assert wire.ask("/writes", method="HEAD").status == 200
        assert wire.is_open()


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_status_without_body(site: Server, status: str) -> None:
    """No body, no framing for one, and the connection stays."""
    with Wire(site) as wire:
        answer = wire.ask("/bad?" + quote(f"('{status}', [('ETag', 'x')])"))
        assert answer.status == int(status[:3])
        assert answer.get("Transfer-Encoding") is None
        assert answer.get("Content-Length") is None
        assert wire.is_open()


# ---- wsgi.file_wrapper

DATA = b"first line\nsecond line\nthe rest"
REST = DATA.partition(b"\n")[2]
FILES = {
    "plain": DATA,
    "unbuffered": DATA,
    "advanced": REST,
    "past-the-end": b"",
    "empty": b"",
    "zipped": DATA,
    "named": DATA,
    "deciphering": DATA,
    "patched": DATA,
    "part": DATA[:10],
    "part-unbuffered": DATA[:10],
    "reader-of-a-subclass": DATA.upper(),
    "file-of-a-subclass": DATA.upper(),
    "storage": DATA.upper(),
    "django": DATA,
    "django-advanced": REST,
    "django-in-memory": DATA,
    "replaced-read": DATA.upper(),
    "replaced-read-unbuffered": DATA.upper(),
    "replaced-read-named": DATA.upper(),
    "replaced-below": DATA.upper(),
    "read-of-another": b"other",
    "read-of-another-named": b"other",
    "spooled": DATA,
    "spooled-on-disk": DATA,
    "updated": (DATA + b", more")[6:],
    "delegating": REST,
    "peeked": DATA,
    "without-size": b"myserver:worker\n",
    "with-invented-size": Path("/sys/devices/system/cpu/online").read_bytes(),
    "sparse": bytes(5000),
    "memory": REST,
    "pipe": b"through a pipe",
    "minimal": b"one two",
    "counted": b"one two",
}


@pytest.mark.parametrize("kind", FILES)
def test_file(site: Server, kind: str) -> None:
    """From where the object stands to its end, however it is wrapped and asked for."""
    with Wire(site) as wire:
        answer = wire.ask(f"/file?{kind}")
        assert (answer.status, answer.body, answer.complete) == (200, FILES[kind], True)
        assert wire.ask(f"/file?{kind}", method="HEAD").status == 200
        assert wire.ask(f"/file_in_validator?{kind}").body == FILES[kind]
        assert wire.ask(f"/file_iterated?{kind}").body == FILES[kind].upper()
        assert wire.ask(f"/file_after_write?{kind}").body == b"written, " + FILES[kind]
        assert wire.is_open()
    assert ask(site, f"/file?{kind} HTTP/1.0").body == FILES[kind]


@pytest.mark.parametrize(
    "kind",
    ["plain", "unbuffered", "advanced", "named", "patched", "django", "django-advanced", "updated"],
)
def test_plain_file_is_sent_by_the_kernel(site: Server, kind: str) -> None:
    """Its length is known before anything of it was read."""
    assert ask(site, f"/file?{kind}").get("Content-Length") == str(len(FILES[kind]))


def test_file_that_is_only_written(site: Server) -> None:
    """What cannot be read fails as read() does."""
    assert_failed(site, lambda: ask(site, "/file?only-written"), "UnsupportedOperation")
    assert_failed(site, lambda: ask(site, "/file?text"), "not bytes")


@pytest.mark.parametrize("kind", ["plain", "memory"])
def test_file_and_length(site: Server, kind: str) -> None:
    """Never past the Content-Length; a shorter file ends the connection."""
    with Wire(site) as wire:
        assert wire.ask(f"/file?{kind}", "X-Length: 5").body == FILES[kind][:5]
        assert wire.ask(f"/file?{kind}", "X-Length: 0").body == b""
        answer = wire.ask(f"/file?{kind}", "X-Length: 100")
        assert (answer.body, answer.complete) == (FILES[kind], False)
        assert wire.is_closed()


def test_file_that_cannot_be_read(site: Server) -> None:
    """Before anything was sent it is a 500, later a torn answer."""
    assert_failed(site, lambda: ask(site, "/file?unreadable-at-once"), "the disk broke")
    answer = ask(site, "/file?unreadable")
    assert (answer.status, answer.body, answer.complete) == (200, b"one ", False)


def test_file_is_closed_once(site: Server) -> None:
    """With sendfile, for HEAD, and for what is no file."""
    name = unique("counted-")
    ask(site, f"/file?counted&{name}")
    assert saw(site, f"countable {name} closed.")
    assert ask(site, "/").status == 200
    assert events(site, f"countable {name} closed.") == 1
    for method, length in (("GET", "100000"), ("HEAD", "100000"), ("GET", "5"), ("GET", "0")):
        name = unique("closed-") + ".bin"
        (site.dir / name).write_bytes(os.urandom(100_000))
        answer = ask(site, f"/file_named?{name}", f"X-Length: {length}", method=method)
        assert answer.complete
        assert saw(site, f"file closed {name}.")
        assert events(site, f"file closed {name}.") == 1


def test_file_wrapper_type(site: Server) -> None:
    """It is an ordinary iterable with its usual errors."""
    said = ask(site, "/file_wrappers").json()
    assert said[0] == said[1] == "raised TypeError"
    assert said[2:4] == ["b'abc|def|g'", "b'abcd|efg'"]
    assert said[4] == "raised AttributeError"
    assert said[5] == "None"
    assert said[6] == "'text'"


@pytest.mark.parametrize("target", ["/file_named?large.bin", "/big?8388608"])
def test_slow_reader_holds_no_thread(server: Start, target: str) -> None:
    """One thread: while a client does not read its large answer, others are served."""
    s = server("cases")
    data = bytes(range(256)) * (8388608 // 256)
    (s.dir / "large.bin").write_bytes(data)
    with Wire(s) as slow:
        slow.request("GET", target)
        assert slow.head().get("Content-Length") == str(len(data))
        for _ in range(3):
            assert ask(s, "/").text == "hello"
        assert slow.stream.read(len(data)) == data
        assert slow.is_open()
    if "large" in target:
        assert saw(s, "file closed large.bin.")


def test_client_leaves_large_file(server: Start) -> None:
    """sendfile to nobody: no signal, no connection left."""
    s = server("cases", access_logfile="-")
    (s.dir / "large.bin").write_bytes(bytes(8388608))
    with Wire(s) as wire:
        wire.request("GET", "/file_named?large.bin").head()
    assert s.log_contains(r'"GET /file_named\?large.bin HTTP/1.1" 200')
    assert ask(s, "/").status == 200


# ---- connections

KEEP_ALIVE = [
    ("HTTP/1.1", [], True),
    ("HTTP/1.1", ["Connection: close"], False),
    ("HTTP/1.1", ["Connection: x, CLOSE"], False),
    ("HTTP/1.1", ["Connection: x", "connection: close"], False),
    ("HTTP/1.1", ["Connection: keep-alive"], True),
    ("HTTP/1.1", ["Connection: closed"], True),
    ("HTTP/1.0", [], False),
    ("HTTP/1.0", ["Connection: keep-alive"], True),
    ("HTTP/1.0", ["Connection: x, Keep-Alive"], True),
    ("HTTP/1.0", ["Connection: keep-alive, close"], False),
]


@pytest.mark.parametrize("version, lines, stays", KEEP_ALIVE)
def test_keep_alive(site: Server, version: str, lines: list[str], stays: bool) -> None:
    """What the client asked for, and the answer says so where the version does not."""
    with Wire(site) as wire:
        answer = wire.ask(f"/ {version}", *lines)
        default = version == "HTTP/1.1"
        expected = None if stays == default else "keep-alive" if stays else "close"
        assert answer.get("Connection") == expected
        assert wire.is_open() if stays else wire.is_closed()


def test_old_client_without_length(site: Server) -> None:
    """Its body ends with the connection, even if it wanted to keep it."""
    with Wire(site) as wire:
        name = unique("old")
        answer = wire.ask(f"/closing/normal?{name} HTTP/1.0", "Connection: keep-alive")
        assert (answer.body, answer.reset) == (b"onetwo", False)
        assert answer.get("Transfer-Encoding") is answer.get("Connection") is None


def test_pipelining(site: Server) -> None:
    """Ten requests in one piece, and in pieces of any size: answered in order."""
    requests, expected = b"", []
    for i in range(10):
        body = None if i % 3 == 0 else b"%d" % i * (i * 700)
        if i % 3 == 2:
            framed = chunked(body, 1000), "Transfer-Encoding: chunked"
            requests += request("PUT", f"/echo?{i}", *framed)
        else:
            requests += request("PUT", f"/echo?{i}", body)
        expected.append(f"PUT {i} ".encode() + (body or b""))
    for step in (len(requests), 4096, 997):
        with Wire(site) as wire:
            for start in range(0, len(requests), step):
                wire.send(requests[start : start + step])
            assert [wire.answer().body for _ in range(10)] == expected
            assert wire.is_open()


def test_pipelined_behind_a_large_answer(site: Server) -> None:
    """The next request waits until the client has taken this answer; then it is answered."""
    with Wire(site) as wire:
        wire.send(request("GET", "/big?4194304") + request("GET", "/echo?next"))
        assert len(wire.answer().body) == 4194304
        assert wire.answer().text == "GET next "


def test_nothing_follows_a_close(site: Server) -> None:
    """What comes behind Connection: close is not answered, and does not spoil the answer."""
    with Wire(site) as wire:
        wire.send(request("GET", "/echo?a", None, "Connection: close") + request("GET", "/echo?b"))
        assert wire.answer().text == "GET a "
        assert wire.is_closed()
