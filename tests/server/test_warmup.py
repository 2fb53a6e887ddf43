"""What is open or running when workers are forked: nobody shares what only one may have."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler

import pytest

from harness import Server, StartFailed, wait_for

Start = Callable[..., Server]


class Echo(BaseHTTPRequestHandler):
    """Answers with the word that it is asked for, on connections that stay."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The answer."""
        word = self.path[1:].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(word)))
        self.end_headers()
        self.wfile.write(word)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def peer() -> Iterator[str]:
    """The port of a server that the application is a client of."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield str(running.server_address[1])
        running.shutdown()


def ask_all(s: Server, workers: int) -> None:
    """Many at once, until all workers have answered; each gets its own answer, and no other."""
    seen: set[str] = set()

    def ask(number: int) -> None:
        answer, pid = s.get(f"/{number}").text.split()
        assert answer == str(number)
        seen.add(pid)

    def ask_some() -> bool:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(100, 180)))
        return len(seen) >= workers  # more, where some were replaced meanwhile

    wait_for(ask_some, 20, f"{workers} workers")


def warnings(s: Server) -> list[str]:
    """All but the one about root."""
    return [w for w in re.findall(r"\[warning\] .*", s.log) if "served as root" not in w]


# ---- connections of the import


@pytest.mark.parametrize("has", ["connection", "raw"])
def test_connection_of_the_import_ends_in_workers(server: Start, peer: str, has: str) -> None:
    """So each connects anew. The line that connected is named."""
    s = server("inherits", workers=4, env={"HAS": has, "PEER_PORT": peer})
    ask_all(s, 4)
    line = r", opened at \S+/inherits\.py:\d+"
    assert re.search(rf"a socket to .*{peer}.* is open{line}: in the workers", s.log)
    assert len(warnings(s)) == 1


@pytest.mark.parametrize("has", ["session", "manager", "pool_of_one_host", "httpx_client"])
@pytest.mark.parametrize("options", [{}, {"AT": "/", "prewarm": "/1"}], ids=["import", "prewarm"])
def test_pools_of_http_clients_are_emptied(
    server: Start, peer: str, has: str, options: dict[str, str]
) -> None:
    """Nobody is refused or warned: each worker connects anew by itself."""
    options = dict(options)
    env = {"HAS": has, "AT": options.pop("AT", "import"), "PEER_PORT": peer}
    s = server("inherits", workers=4, env=env, **options)
    ask_all(s, 4)
    assert warnings(s) == []


def test_datagrams_may_be_shared(server: Start) -> None:
    """They go out whole, so nobody is warned."""
    s = server("inherits", workers=2, env={"HAS": "datagrams"})
    ask_all(s, 2)
    assert warnings(s) == []


@pytest.mark.parametrize(
    ("has", "what"),
    [
        ("helper", "a pipe"),
        ("helper_by_pair", "a socket pair"),
        ("helper_by_connections", "a pipe"),
    ],
)
def test_helper_of_the_import_is_named(server: Start, has: str, what: str) -> None:
    """Its pipes are shared."""
    s = server("inherits", workers=2, env={"HAS": has})
    assert s.log_contains(
        rf"{what} .* to process \d+, started at \S+/inherits\.py:\d+, is open: all workers would share it"
    )
    stop_with_helper(s)


def test_terminal_of_the_import_is_named(server: Start) -> None:
    """As pipes are."""
    s = server("inherits", workers=2, env={"HAS": "helper_by_terminal"})
    assert s.log_contains(r"a terminal .* is open: all workers would share it")
    stop_with_helper(s)


def stop_with_helper(s: Server) -> None:
    """A helper ends by itself, when the mold has gone."""
    assert s.stop() == 0
    wait_for(lambda: not s.relatives(), what="the end of the helper")


# ---- files


@pytest.mark.parametrize(
    ("has", "options"),
    [("reader", {}), ("reader", {"AT": "/", "prewarm": "/1"}), ("updater", {})],
)
def test_each_worker_has_its_own_offset(server: Start, has: str, options: dict[str, str]) -> None:
    """Of a file that is read, by whomever it was opened, and of one that the import has opened to be
    read and written."""
    options = dict(options)
    env = {"HAS": has, "AT": options.pop("AT", "import")}
    s = server("inherits", workers=4, env=env, **options)
    ask_all(s, 4)
    assert warnings(s) == []


def test_buffers_are_written_once(server: Start) -> None:
    """What is buffered at the fork; and the lines of all stand behind each other."""
    s = server("inherits", workers=4, env={"HAS": "log"})
    ask_all(s, 4)
    assert s.stop() == 0
    lines = (s.dir / "lines").read_text().split()
    assert lines.count("first") == 1 and lines[0] == "first"
    assert len(lines) == 1 + s.log.count("event: prewarm None")
    assert all(line == "first" or 100 <= int(line) < 180 for line in lines)


# ---- threads, pools, loops


@pytest.mark.parametrize("has", ["agent", "hooked"])
@pytest.mark.parametrize("options", [{}, {"AT": "/", "prewarm": "/1"}])
def test_threads_that_come_back(server: Start, has: str, options: dict[str, str]) -> None:
    """At once or with the first request: nobody is warned."""
    options = dict(options)
    env = {"HAS": has, "AT": options.pop("AT", "import")}
    s = server("inherits", workers=2, env=env, **options)
    ask_all(s, 2)
    assert [w for w in warnings(s) if "thread" in w] == []


@pytest.mark.parametrize("options", [{}, {"AT": "/", "prewarm": "/1", "prewarm_rounds": "1"}])
def test_thread_that_does_not_come_back(server: Start, options: dict[str, str]) -> None:
    """Said once by all workers of a generation, with the line and with what helps."""
    options = dict(options)
    env = {"HAS": "background", "AT": options.pop("AT", "import")}
    s = server("inherits", workers=3, env=env, **options)
    wait_for(lambda: len(re.findall(r"\) serves$", s.log, re.MULTILINE)) == 3, 20)
    (warning,) = warnings(s)
    assert re.search(
        r"worker \d .*: thread 'answerer', started at \S+/inherits.py:\d+, does not exist in the workers: "
        r"start it in a function decorated with @myserver.postfork, or set preload = false$",
        warning,
    )


@pytest.mark.parametrize(
    "has", ["processes", "unused_processes", "old_pool", "thread_pool", "loop"]
)
@pytest.mark.parametrize("options", [{}, {"AT": "/", "prewarm": "/1", "prewarm_rounds": "2"}])
def test_what_each_worker_makes_anew(server: Start, has: str, options: dict[str, str]) -> None:
    """Pools of processes and event loops, of the import or of the warm-up."""
    options = dict(options)
    env = {"HAS": has, "AT": options.pop("AT", "import")}
    s = server("inherits", workers=3, env=env, **options)
    ask_all(s, 3)
    assert warnings(s) == []


@pytest.mark.parametrize("options", [{}, {"AT": "/", "prewarm": "/1", "prewarm_rounds": "2"}])
def test_a_loop_of_uvloop(server: Start, options: dict[str, str]) -> None:
    """Workers that share what it gives its orders to the kernel by would abort."""
    pytest.importorskip("uvloop", reason="there is none for this Python")
    options = dict(options)
    s = server(
        "inherits",
        workers=3,
        env={"HAS": "fast_loop", "AT": options.pop("AT", "import")},
        **options,
    )
    ask_all(s, 3)


@pytest.mark.parametrize("has", ["own_pipe", "own_pair", "own_datagrams", "waker"])
@pytest.mark.parametrize("at", ["import", "/"])
def test_what_a_process_has_for_itself(server: Start, has: str, at: str) -> None:
    """Each worker has its own pipe, so that none reads what another has written."""
    options = {} if at == "import" else {"prewarm": "/1", "prewarm_rounds": "2"}
    s = server("inherits", workers=4, env={"HAS": has, "AT": at}, **options)
    ask_all(s, 4)
    assert [w for w in warnings(s) if "(epoll)" not in w] == []


def test_what_a_refork_has_for_itself(server: Start) -> None:
    """The workers of the second mold, too."""
    s = server("inherits", workers=3, env={"HAS": "own_pair"}, refork_after="20")
    ask_all(s, 3)
    for _ in range(20):
        s.get("/1")
    assert s.log_contains("all workers are of generation 2")
    ask_all(s, 3)


def test_a_pipe_with_tokens_stays_common(server: Start) -> None:
    """What is in it at the fork is there for all."""
    s = server("inherits", workers=4, env={"HAS": "tokens"})
    ask_all(s, 4)


# ---- what the warm-up leaves


@pytest.mark.parametrize(
    ("has", "what"),
    [
        ("connection", r"a socket to .*, opened at \S+/inherits.py:\d+"),
        ("helper", r"a pipe \(descriptor \d+\) to process \d+, started at \S+/inherits.py:\d+"),
        ("helper_by_pair", r"a socket pair .* to process \d+, started at \S+/inherits.py:\d+"),
        ("helper_by_connections", r"a pipe .* to process \d+, started at \S+/inherits.py:\d+"),
        ("helper_by_terminal", r"a terminal \(descriptor \d+\)"),
        ("scratch", r"the file /tmp/.* \(descriptor \d+\)"),
    ],
)
def test_what_would_mix_up_answers_is_refused(
    server: Start, peer: str, has: str, what: str
) -> None:
    """The sentence says what it is, and what to do."""
    env = {"HAS": has, "AT": "/", "PEER_PORT": peer}
    with pytest.raises(StartFailed) as failure:
        server("inherits", workers=2, env=env, prewarm="/1")
    assert failure.value.status == 3
    said = failure.value.log
    assert re.search(
        rf"prewarm has left open .*{what}.*, that all workers would share: close", said
    )
    assert "@myserver.prefork" in said
    s = server("inherits", workers=2, env=env)  # without prewarm each has its own
    ask_all(s, 2)
    assert warnings(s) == []
    stop_with_helper(s)


def test_other_descriptors_are_a_warning(server: Start) -> None:
    """The start goes on."""
    s = server("inherits", workers=2, env={"HAS": "epoll", "AT": "/"}, prewarm="/1")
    assert s.log_contains(r"\[warning\] mold .*prewarm has left open an event loop \(epoll\)")


def test_requests_of_the_warm_up_are_marked(server: Start) -> None:
    """And those of clients are not."""
    s = server("inherits", env={"HAS": "agent"}, prewarm="/1", prewarm_rounds=2)
    assert s.get("/1").status == 200
    assert re.findall("event: prewarm (.*)", s.log) == ["True", "True", "True", "None"]


# ---- connections of a thread of the request


def test_a_configured_one_is_refused(server: Start) -> None:
    """The sentence says what to do."""
    with pytest.raises(StartFailed, match=r"that all workers would share.*@myserver\.prefork"):
        server(app="keeps_connection:application", prewarm="/")


def test_without_a_warm_up_each_has_its_own(server: Start) -> None:
    """Nobody asked for one, so there is none."""
    site: Server = server(app="keeps_connection:application", workers=2)
    assert {site.get("/").body for _ in range(10)} == {b"own"}


def test_a_hook_that_closes_it(server: Start) -> None:
    """Then each worker opens its own."""
    site: Server = server(app="closes_connection:application", workers=2, prewarm="/")
    assert site.log_contains(r"warmed up: 25 rounds")
    assert {site.get("/").body for _ in range(10)} == {b"own"}


def test_without_preload_nothing_is_shared(server: Start) -> None:
    """Each worker loads and warms its own application."""
    site: Server = server(app="keeps_connection:application", workers=2, preload=False)
    assert {site.get("/").body for _ in range(10)} == {b"own"}
