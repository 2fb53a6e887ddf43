"""What must not get out: descriptors, bodies, secrets; and how the program is built."""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness import (
    BINARY,
    FLAVOUR,
    ROOT,
    Server,
    can_connect,
    descriptors,
    engine_of,
    environment,
    readelf,
    wait_for,
)
from wire import Wire, request

Start = Callable[..., Server]

MEGABYTE = 1 << 20
hardened = pytest.mark.skipif(FLAVOUR != "release", reason="sanitizers are built otherwise")


# ---- descriptors


def numbers(listing: str) -> set[int]:
    """The descriptors in a line of the application."""
    return {int(entry.partition("=")[0]) for entry in listing.split()}


@pytest.mark.parametrize("threads", [1, 3])
def test_no_descriptor_is_inherited(server: Start, threads: int) -> None:
    """A process that the application starts has 0, 1 and 2: at import and during requests.

    Meanwhile there are connections, a body in a file, unix and TCP listeners, an access log.
    """
    s = server(
        "isolation:application",
        workers=2,
        threads=threads,
        binds=["127.0.0.1:0", "unix:app.sock"],
        access_logfile="access.log",
        body_buffer="4k",
        control="unix:control.sock",
        stats="unix:stats.sock",
    )
    imported = s.log_contains(r"at import: (.*)$")
    assert imported and numbers(imported[1]) == {0, 1, 2}, imported[1]
    with Wire(s) as idle, Wire(s, name="unix:app.sock") as half:
        assert idle.ask("/").text == "hello"
        half.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50000)
        for _ in range(6):
            with Wire(s) as wire:
                answer = wire.ask("/inherited", method="POST", body=b"x" * 100_000)
                assert numbers(answer.text) == {0, 1, 2}, answer.text


def test_every_descriptor_is_closed_on_exec(server: Start) -> None:
    """Of the master, the mold and a worker, by what the kernel says of each."""
    s = server(
        "hello:application",
        binds=["127.0.0.1:0", "unix:app.sock"],
        access_logfile="a.log",
        error_logfile="-",
        control="unix:control.sock",
        stats="unix:stats.sock",
    )
    with Wire(s) as wire:
        assert wire.ask("/").status == 200
        for process in s.relatives():
            for fd, target in descriptors(process.pid).items():
                with suppress(FileNotFoundError):  # closed meanwhile
                    info = Path(f"/proc/{process.pid}/fdinfo/{fd}").read_text()
                    flags = int(re.search(r"^flags:\s*([0-7]+)", info, re.MULTILINE)[1], 8)
                    assert fd <= 2 or flags & os.O_CLOEXEC, (process.name, fd, target)


@contextmanager
def outliving(s: Server, child: int) -> Iterator[None]:
    """Then stop the server: its address is free, though the process lives. It is not a child of
    ours: os.kill sees whether it is there."""
    try:
        yield
        assert s.stop() == 0
        assert not can_connect(s.address)
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        wait_for(lambda: not s.relatives(), what="the forked process to leave")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:app.sock"], ids=["tcp", "unix"])
def test_a_forked_process_lets_go_of_sockets(server: Start, bind: str, threads: int) -> None:
    """While it lives, answers end and connections are closed."""
    s = server("isolation", threads=threads, binds=[bind], keep_alive="1s")
    with Wire(s) as idle:
        assert idle.ask("/").text == "hello"
        with Wire(s) as wire:
            child = int(wire.ask("/fork").text)
        with outliving(s, child):
            wait_for(
                lambda: [p.name for p in s.relatives() if p.pid == child] == ["myserver:forked"]
            )
            for line in ("Connection: close", "Connection: keep-alive"):
                with Wire(s) as wire:
                    assert wire.ask("/", line).text == "hello"
                    assert wire.is_closed()
            with Wire(s) as wire:
                other = int(wire.ask("/fork", "Connection: close").text)
                try:
                    assert wire.is_closed()
                    os.kill(other, 0)
                finally:
                    os.kill(other, signal.SIGKILL)
            assert idle.is_closed()


def test_a_process_forked_at_import_lets_go_of_sockets(server: Start) -> None:
    s = server("isolation", env={"FORK_AT_IMPORT": "1"})
    said = s.log_contains(r"forked at import: (\d+)")
    assert said
    with outliving(s, int(said[1])):
        assert s.get("/").text == "hello"


# ---- files


def test_bodies_are_in_files_without_names(server: Start, tmp_path: Path) -> None:
    """Unlinked, mode 0600, and nothing is left of them however the worker ends."""
    s = server("cases", tmp_dir=str(tmp_path), body_buffer="4k", expect_deaths=True)
    (pid,) = s.workers()
    with Wire(s) as wire:
        wire.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n" + b"s" * 90000)
        path = wait_for(
            lambda: [
                f"/proc/{pid}/fd/{fd}"
                for fd, target in descriptors(pid).items()
                if target.startswith(str(tmp_path)) and target.endswith("(deleted)")
            ],
            what="a body in a file",
        )[0]
        found = os.stat(path)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert found.st_nlink == 0 and found.st_size > 4096
        assert not os.listdir(tmp_path)
        os.kill(pid, 9)
    wait_for(lambda: s.workers() and s.workers() != [pid], what="another worker")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("umask, made, log", [(0o077, 0o600, 0o600), (0o022, 0o644, 0o640)])
def test_umask(server: Start, umask: int, made: int, log: int) -> None:
    """It is the starter's, for the application and the logs; a socket has the mode it was given."""
    old = os.umask(umask)
    try:
        s = server("isolation:application", binds=["unix:app.sock"], access_logfile="access.log")
    finally:
        os.umask(old)
    with Wire(s) as wire:
        assert wire.ask("/file").text == f"{made:04o}"
    assert stat.S_IMODE((s.dir / "access.log").stat().st_mode) == log
    assert stat.S_IMODE((s.dir / "app.sock").stat().st_mode) == 0o660


@pytest.mark.parametrize("mode", ["0600", "0666"])
def test_socket_mode(server: Start, mode: str) -> None:
    """As it was asked for, whatever the umask."""
    old = os.umask(0o077)
    try:
        s = server("hello:application", binds=["unix:app.sock"], socket_mode=mode)
    finally:
        os.umask(old)
    assert stat.S_IMODE((s.dir / "app.sock").stat().st_mode) == int(mode, 8)


# ---- secrets


@pytest.mark.parametrize("log_format", ["combined", "json"])
def test_no_secrets_in_logs(server: Start, log_format: str) -> None:
    """Neither credentials nor cookies nor bodies, of good and refused and failing requests."""
    s = server(
        "cases",
        log_level="debug",
        access_logfile="-",
        access_logformat=log_format,
        env={"DATABASE_PASSWORD": "s3cret"},
    )
    secrets = ("Authorization: Bearer s3cret", "Cookie: session=s3cret", "X-Api-Key: s3cret")
    with Wire(s) as wire:
        assert wire.ask("/echo", *secrets, method="POST", body=b"s3cret").status == 200
        assert wire.ask("/nowhere", *secrets).status == 500
        assert wire.ask("/", *secrets, "Bad Header: s3cret").status == 400
    with Wire(s) as wire:
        wire.send(request("POST", "/echo", b"s3cret", *secrets)[:-1])
    wait_for(lambda: s.log.count("HTTP/1.1") >= 3 or s.log.count('"time"') >= 3, what="lines")
    assert "s3cret" not in s.log
    for process in s.relatives():
        assert "s3cret" not in process.title


def test_nothing_forges_a_line(server: Start) -> None:
    """Whatever bytes come, each request is one line, and its fields stay apart."""
    s = server("cases", access_logfile="access.log", access_logformat="json")
    forged = '\\"} {\\"status\\": 200'
    with Wire(s) as wire:
        wire.ask("/?\"'\\%0a%0d", f"User-Agent: {forged}\x1b[2J\t\xe2\x80\xa8\x9b", 'Referer: "\\')
    sent = 1
    for byte in (*range(0, 0x21), 0x7F, 0x80, 0x9B, 0xFF):
        with Wire(s) as wire:
            char = bytes([byte])
            wire.send(b"GET /%b HTTP/1.1\r\nHost: a\r\nReferer: x%by\r\n\r\n" % (char, char))
            wire.answer()
        sent += 1
    lines = wait_for(
        lambda: (found := (s.dir / "access.log").read_bytes().split(b"\n"))[sent:] and found
    )
    assert len(lines) == sent + 1 and lines[-1] == b""
    for line in lines[:-1]:
        assert not re.search(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]", line)
        assert isinstance(json.loads(line)["status"], int)
    for line in s.log.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d |  |event: |\{", line), line


# ---- the binary


@hardened
def test_the_program_is_hardened() -> None:
    """PIE, RELRO with immediate binding, no executable stack, stack protector, FORTIFY, CET."""
    assert re.search(r"Type:\s+DYN", readelf("-h"))
    assert re.search(r"FLAGS_1\).*\bNOW\b.*\bPIE\b", readelf("-d"))
    segments = readelf("-l")
    for shown in (segments, readelf("-l", engine_of(BINARY))):
        assert "GNU_RELRO" in shown
        assert re.search(r"GNU_STACK.*\bRW\b", shown)
    assert re.search(r"FLAGS_1\).*\bNOW\b", readelf("-d", engine_of(BINARY)))
    symbols = readelf("--dyn-syms") + readelf("--dyn-syms", engine_of(BINARY))
    assert "__stack_chk_fail" in symbols
    for function in ("__snprintf_chk", "__memcpy_chk", "__vsnprintf_chk"):
        if function in symbols:
            break
    else:
        pytest.fail("no fortified function is used")
    if os.uname().machine == "x86_64":
        for file in (BINARY, engine_of(BINARY)):
            assert re.search(r"x86 feature:.*IBT.*SHSTK", readelf("-n", file))


# ---- out of memory

FAIL_MALLOC = ROOT / "tests" / "tools" / "fail_malloc.c"


@pytest.fixture(scope="module")
def fail_malloc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that lets the Nth allocation fail and all after it."""
    library = tmp_path_factory.mktemp("malloc") / "fail_malloc.so"
    flags = ["-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "-o", library, FAIL_MALLOC], check=True)
    return library


def run_short_of_memory(library: Path, nth: int, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the program with its Nth allocation failing."""
    env = environment({"LD_PRELOAD": str(library), "FAIL_MALLOC_AT": str(nth)})
    return subprocess.run(
        [BINARY, *args], env=env, capture_output=True, text=True, timeout=60, cwd="/"
    )


@hardened
def test_no_memory_for_the_settings(fail_malloc: Path, tmp_path: Path) -> None:
    """Whichever allocation fails, the program ends with a sentence, not by a signal."""
    ini = tmp_path / "a.ini"
    ini.write_text("[myserver]\nbind = 127.0.0.1:0\nbind = [::1]:0\nenv = A=${PATH}\n")
    failures = 0
    for nth in range(1, 2000):
        done = run_short_of_memory(fail_malloc, nth, "-c", str(ini), "--print-config")
        if done.returncode == 0:
            break
        failures += 1
        if done.returncode == 127 and "thread-local data" in done.stderr:
            continue  # the dynamic linker's, on the way to the first call of Python
        assert done.returncode in (1, 2), done
        assert done.stderr.startswith("myserver: ") and done.stderr.endswith("\n"), done
    assert failures > 20 and done.returncode == 0


@hardened
@pytest.mark.parametrize("nth", [int(1.5**n) for n in range(2, 25)])
def test_no_memory_while_it_starts(fail_malloc: Path, nth: int) -> None:
    """Master, mold and worker, one allocation after the other: it serves, or ends with a sentence."""
    env = environment({"LD_PRELOAD": str(fail_malloc), "FAIL_MALLOC_AT": str(nth)})
    args = ["--bind=127.0.0.1:0", "--workers=1", f"--pythonpath={ROOT}/tests/apps", "hello"]
    with subprocess.Popen(
        [BINARY, *args], env=env, stderr=subprocess.PIPE, text=True, cwd="/"
    ) as process:
        assert process.stderr
        said = []
        for line in process.stderr:
            said.append(line)
            if "ready: " in line:
                process.terminate()
        status = process.wait(60)
    ready = any("ready: " in line for line in said)
    assert status in ((0, 1) if ready else (1, 2, 3)), (status, said)
    assert ready or any("[critical]" in line or "myserver: " in line for line in said), said


@hardened
@pytest.mark.parametrize("megabytes", [6, 9, 12, 14, 16, 18, 20, 24])
def test_no_memory_to_start(megabytes: int) -> None:
    """With too little address space it says so and ends; it neither hangs nor crashes."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes * MEGABYTE, megabytes * MEGABYTE))
        ctypes.CDLL(None)

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(BINARY), *arguments]
        return subprocess.run(
            command, preexec_fn=limit, env=environment(), capture_output=True, text=True, timeout=60
        )

    if start("--version").returncode != 0:
        pytest.skip("the dynamic linker's: it ends with 127, or crashes")
    done = start("--check-config", f"--pythonpath={ROOT}/tests/apps", "hello:application")
    assert done.returncode in (0, 1, 2, 3), done
    assert done.returncode == 0 or done.stderr.strip(), done
