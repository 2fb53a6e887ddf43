"""The control process: health, and what it survives."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from control_client import OPTIONS, ask, connect, stats
from harness import SLOWNESS, Response, Server, descriptors, processes, read_all, run, wait_for
from wire import is_read, let

Start = Callable[..., Server]


def control_pids(s: Server) -> list[int]:
    """The pid of the control process, if there is one."""
    pids = [p.pid for p in s.relatives() if p.title.startswith("myserver: control")]
    assert len(pids) <= 1
    return pids


def control_pid(s: Server) -> int:
    """The same when it is there: it may get its title after a worker serves."""
    return wait_for(lambda: control_pids(s), what="the control process")[0]


def in_background(call: Callable[[], object]) -> threading.Thread:
    """Run `call` in a thread."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


# ---- what it answers


def test_health(server: Start) -> None:
    """A serving server lives and is ready."""
    s = server(control="unix:control.sock")
    for path, text in ("/livez", "alive\n"), ("/readyz", "ready\n"):
        response = ask(s, path)
        assert (response.status, response.text) == (200, text)
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Connection"] == "close"


def test_none_without_option(server: Start) -> None:
    """Without `control` and `stats` there is no such process."""
    s = server()
    assert control_pids(s) == []


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /nowhere HTTP/1.1", 404),
        ("POST /stats HTTP/1.1", 405),
        ("DELETE /livez HTTP/1.0", 405),
        ("GET /livez HTTP/3.0", 505),
        ("what is this", 400),
        ("GET /" + "x" * 10000 + " HTTP/1.1", 414),
    ],
)
def test_refusals(server: Start, request_line: str, status: int) -> None:
    """Only GET and HEAD of what there is; the parser is that of the server."""
    s = server(control="unix:control.sock")
    with connect(s) as c:
        c.sendall(f"{request_line}\r\nHost: x\r\n\r\n".encode())
        assert read_all(c).startswith(f"HTTP/1.1 {status} ".encode())
    assert ask(s, "/livez").status == 200


def test_other_methods_are_told_the_right_ones(server: Start) -> None:
    """As RFC 9110 wants it of a 405; no other answer has that header."""
    s = server(control="unix:control.sock")
    response = ask(s, "/livez", "POST")
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    assert "Allow" not in ask(s, "/livez").headers


def test_head(server: Start) -> None:
    """HEAD has the length of the body and no body."""
    s = server(control="unix:control.sock")
    response = ask(s, "/readyz", "HEAD")
    assert (response.status, response.body) == (200, b"")
    assert response.headers["Content-Length"] == "6"


def test_query_is_ignored(server: Start) -> None:
    """Probes may add a query."""
    s = server(control="unix:control.sock")
    assert ask(s, "/livez?verbose=1").status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_other_users_may_not_ask(server: Start) -> None:
    """Not even where the modes would let them: the kernel says who is at the other end."""
    s = server(control="unix:control.sock", stats="unix:stats.sock")
    s.dir.chmod(0o755)
    for name in ("control.sock", "stats.sock"):
        (s.dir / name).chmod(0o666)
        other = socket.socket(socket.AF_UNIX)
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
        try:
            other.connect(str(s.dir / name))
        finally:
            os.seteuid(0)
        with other:
            other.settimeout(5 * SLOWNESS)
            assert read_all(other) == b""
        assert s.log_contains(rf"{name}: user \d+ may not ask")
    assert ask(s, "/livez").status == 200


def test_over_tcp(server: Start) -> None:
    """On a loopback address without a warning."""
    s = server(control="127.0.0.1:0")
    match = s.log_contains(r"control on (127\.0\.0\.1):(\d+)")
    assert match and "whoever can connect" not in s.log
    with socket.create_connection((match[1], int(match[2])), 20) as c:
        c.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert b"alive" in read_all(c)


def test_over_tcp_for_all_warns(server: Start) -> None:
    """An address that others can reach is said to be one."""
    s = server(control="0.0.0.0:0")
    assert s.log_contains(r"\[warning\] .*control on 0\.0\.0\.0:\d+: whoever can connect")


@pytest.mark.parametrize("option", ["control", "stats"])
def test_bad_address(option: str) -> None:
    """One sentence that names the option."""
    result = run(f"--{option}=nonsense", "hello:application")
    assert result.returncode == 2
    assert result.stderr.startswith(
        f"myserver: command line: --{option}: nonsense is none of HOST:PORT, [IPV6]:PORT, :PORT, "
        "unix:PATH, fd://N, /PATH\n"
    )


# ---- when it answers


def test_answers_while_workers_are_stopped(server: Start) -> None:
    """It needs nothing of a worker, the mold or the master."""
    s = server(workers=2, **OPTIONS)
    wait_for(lambda: [w["state"] for w in stats(s)["workers"]] == ["serving"] * 2)
    stopped = [s.pid, *s.molds(), *s.workers()]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert ask(s, "/livez").status == 200
        assert ask(s, "/metrics").status == 200
        assert len(stats(s)["workers"]) == 2
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def test_answers_while_workers_are_busy(server: Start) -> None:
    """All threads run requests: they are shown, and it is still ready."""
    s = server("mix:application", threads=2, **OPTIONS)
    clients = [in_background(lambda: s.get("/held?secret=1")) for _ in range(2)]
    wait_for(lambda: stats(s)["total"]["threads"]["busy"] == 2)
    running = wait_for(
        lambda: found if len(found := stats(s)["workers"][0]["running"]) == 2 else None
    )
    assert [r["path"] for r in running] == ["/held", "/held"]
    assert all(r["method"] == "GET" and r["client"] == "127.0.0.1" for r in running)
    assert all(0 <= r["elapsed_s"] < 60 * SLOWNESS for r in running)
    assert ask(s, "/readyz").status == 200
    let(s, "go")
    for client in clients:
        client.join()
    wait_for(lambda: stats(s)["total"]["threads"] == {"busy": 0, "idle": 2})


def test_not_ready_while_stopping(server: Start) -> None:
    """It says so to the last, and is gone with the master."""
    s = server("mix:application", **OPTIONS)
    client = in_background(lambda: s.get("/held"))
    assert s.log_contains("event: held")
    s.signal(signal.SIGTERM)
    response = wait_for(lambda: r if (r := ask(s, "/readyz")).status == 503 else None)
    assert response.text == "stopping\n"
    assert ask(s, "/livez").status == 200
    assert stats(s)["stopping"] is True
    let(s, "go")
    client.join()
    assert s.wait() == 0
    assert not list(s.dir.glob("*.sock"))


def test_not_ready_before_a_worker_serves(server: Start) -> None:
    """A probe during a slow start gets an answer: not yet."""
    s = server("sleepy", start=False, **OPTIONS)
    code = "import told\ntold.wait_until_let('go')\nfrom hello import application\n"
    (s.dir / "sleepy.py").write_text(code)
    starter = in_background(s.start)
    wait_for(lambda: (s.dir / "control.sock").exists())
    response = wait_for(lambda: answer_of(s))
    assert (response.status, response.text) == (503, "no worker serves\n")
    assert ask(s, "/livez").status == 200
    let(s, "go")
    starter.join()
    assert ask(s, "/readyz").status == 200


def answer_of(s: Server) -> Response | None:
    """The answer of /readyz, None while nobody listens."""
    try:
        return ask(s, "/readyz")
    except OSError:
        return None


# ---- what it is


def test_modes_of_sockets(server: Start) -> None:
    """Only its own user may ask, whatever the umask."""
    s = server(**OPTIONS)
    for name in "control.sock", "stats.sock":
        assert stat.S_IMODE((s.dir / name).stat().st_mode) == 0o600


def test_holds_no_socket_of_others(server: Start) -> None:
    """Neither listening sockets of the application, nor what must end with the master."""
    s = server(binds=["127.0.0.1:0", "unix:http.sock"], **OPTIONS)
    ask(s, "/metrics")
    others = {sockets_listening(p) for p in (s.workers()[0], s.molds()[0])}
    assert len(others) == 1
    assert not sockets_listening(control_pid(s)) & others.pop()
    assert len(sockets_listening(control_pid(s))) == 2


def sockets_listening(pid: int) -> frozenset[str]:
    """The inodes of the listening sockets that a process holds."""
    listening = set()
    for name in "tcp", "tcp6":
        lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        listening |= {f[9] for line in lines if (f := line.split())[3] == "0A"}
    lines = Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]
    listening |= {f[6] for line in lines if int((f := line.split())[3], 16) & 0x10000}
    held = {t[8:-1] for t in descriptors(pid).values() if t.startswith("socket:[")}
    return frozenset(held & listening)


def test_is_restarted(server: Start) -> None:
    """When it dies, another one takes its place, and workers notice nothing."""
    s = server(expect_deaths=True, **OPTIONS)
    workers = s.workers()
    for _ in range(2):
        before = control_pid(s)
        os.kill(before, signal.SIGKILL)
        wait_for(lambda pid=before: control_pid(s) != pid)
        assert ask(s, "/livez").status == 200
    assert s.log_contains(r"\[error\] .*control process .* died: signal 9")
    assert s.workers() == workers


def test_is_restarted_while_the_server_stops(server: Start) -> None:
    """Probes are answered to the last."""
    s = server("mix:application", expect_deaths=True, **OPTIONS)
    client = in_background(lambda: s.get("/held"))
    assert s.log_contains("event: held")
    before = control_pid(s)
    s.signal(signal.SIGTERM)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: control_pid(s) != before)
    assert ask(s, "/readyz").status == 503
    let(s, "go")
    client.join()
    assert s.wait() == 0
    assert not list(s.dir.glob("*.sock"))


def test_ignores_signals_to_the_group(server: Start) -> None:
    """A terminal's ^C or a supervisor's TERM reaches all: it ends last."""
    s = server(**OPTIONS)
    assert ask(s, "/livez").status == 200
    pid = control_pid(s)
    for number in signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1:
        os.kill(pid, number)
    assert ask(s, "/livez").status == 200
    assert control_pid(s) == pid


def test_ends_with_the_master(server: Start) -> None:
    """Also when the master is killed."""
    s = server(expect_deaths=True, **OPTIONS)
    pid = control_pid(s)
    s.signal(signal.SIGKILL)
    s.wait()
    wait_for(lambda: not s.relatives())
    assert pid not in [p.pid for p in processes() if p.state != "Z"]


# ---- bad clients


def open_files(pid: int) -> frozenset[str]:
    """What a process has open."""
    return frozenset(descriptors(pid).values())


def test_silent_clients(server: Start) -> None:
    """Who says nothing is dropped after some seconds."""
    s = server(**OPTIONS)
    silent = [connect(s, timeout=40) for _ in range(80)]
    assert ask(s, "/livez").status == 200
    for c in silent:
        assert c.recv(1) == b""
        c.close()


def test_the_longest_silent_client_goes_for_the_next(server: Start) -> None:
    """As many as it has places for hold nobody up, and who says something stays."""
    s = server(**OPTIONS)
    ask(s, "/livez")
    before = open_files(control_pid(s))
    slow = connect(s)
    slow.sendall(b"GET /livez ")
    silent = [connect(s) for _ in range(63)]
    wait_for(lambda: len(open_files(control_pid(s)) - before) == 64)
    slow.sendall(b"HTTP/1.1\r\n")
    wait_for(lambda: is_read(slow))
    assert ask(s, "/livez").status == 200
    slow.sendall(b"Host: x\r\n\r\n")
    assert b"alive" in read_all(slow)
    assert silent[0].recv(1) == b""
    for c in (slow, *silent):
        c.close()


def test_client_that_does_not_read(server: Start) -> None:
    """A document that nobody takes does not hold others up."""
    s = server(threads=1024, **OPTIONS)
    lazy = []
    for _ in range(8):
        lazy.append(connect(s, "stats.sock"))
        lazy.append(connect(s))
        lazy[-1].sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert ask(s, "/livez").status == 200
    for c in lazy:
        c.close()


def test_slices_of_a_request(server: Start) -> None:
    """A request may come byte by byte."""
    s = server(**OPTIONS)
    with connect(s) as c:
        for byte in b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n":
            c.send(bytes([byte]))
        assert b"alive" in read_all(c)


def test_many_at_once(server: Start) -> None:
    """More clients than it has places are served one after the other."""
    s = server(**OPTIONS)
    clients = [connect(s) for _ in range(60)]
    for c in clients:
        c.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    for c in clients:
        assert b"200 OK" in read_all(c)
        c.close()
