"""Libraries in one process: what of ours an extension could bind to, and extensions that bring the same
libraries themselves."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGHUP

import pytest

from harness import BINARY, FLAVOUR, Server, engine_of, readelf, wait_for
from test_master import wait_for_workers

Start = Callable[..., Server]

GREENLETS = "285 by a socket"


def defined(file: Path) -> set[str]:
    """The symbols in the dynamic table that are the file's own."""
    fields = [line.split() for line in readelf("--dyn-syms", file).splitlines()]
    rows = [row for row in fields if len(row) >= 8 and row[0].rstrip(":").isdigit()]
    return {row[7].partition("@")[0] for row in rows if row[6] != "UND"}


@pytest.mark.skipif(FLAVOUR != "release", reason="a sanitizer exports what it replaces")
def test_nothing_of_the_program_is_visible() -> None:
    """Except what is there to be found: instead of the C library's, and by the launcher."""
    streams = {"stderr", "stdout"}  # copies of the C library's, which a program makes
    assert defined(BINARY) - streams == {"pthread_cond_timedwait"}
    assert defined(engine_of(BINARY)) == {"myserver_main"}


@pytest.mark.parametrize("part", ["launcher", "engine"])
def test_only_the_system_is_linked_dynamically(part: str) -> None:
    """Python is loaded by the launcher: which one, it finds out."""
    file = BINARY if part == "launcher" else engine_of(BINARY)
    names = re.findall(r"\(NEEDED\).*\[(.*?)\.so", readelf("--dynamic", file))
    system = r"lib(c|m|dl|pthread|rt|util|asan|ubsan|tsan|gcc_s|stdc\+\+)|ld-linux.*"
    assert [name for name in names if not re.fullmatch(system, name)] == []


# What extensions export: each function says that it was the extension's own which was called.
EXPORTED = (
    *("ev_run", "ev_loop_new", "ev_io_start", "ev_timer_start", "ev_default_loop", "ev_time"),
    *("event_init", "event_add", "event_base_loop", "event_active"),
    *("ini_parse", "ini_parse_string", "ini_parse_file"),
    *("llhttp_init", "llhttp_execute", "llhttp_errno_name", "llhttp__internal_execute"),
    *("buf_append", "log_error", "conn_open", "now_ns", "body_init", "main"),
)


def build_extension(directory: Path) -> None:
    """A library that calls what it exports itself through the dynamic linker."""
    functions = "".join(
        f"int {name}(void) {{ return {i + 1}; }}\n" for i, name in enumerate(EXPORTED)
    )
    calls = "".join(f" && {name}() == {i + 1}" for i, name in enumerate(EXPORTED))
    source = directory / "exports.c"
    source.write_text(f"{functions}int all_are_ours(void) {{ return 1{calls}; }}\n")
    command = [
        "cc",
        "-shared",
        "-fPIC",
        "-O0",
        "-w",
        "-fno-builtin",
        "-o",
        str(directory / "exports.so"),
    ]
    subprocess.run([*command, str(source)], check=True)


def test_extensions_bind_to_their_own_functions(server: Start, tmp_path: Path) -> None:
    """Whatever they are called."""
    build_extension(tmp_path)
    app = tmp_path / "loads.py"
    app.write_text(
        f"import ctypes\nlibrary = ctypes.CDLL({str(tmp_path / 'exports.so')!r})\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [str(library.all_are_ours()).encode()]\n"
    )
    assert server(str(app)).get("/").text == "1"


@pytest.mark.skipif(
    FLAVOUR == "tsan", reason="gevent switches stacks without telling the sanitizer"
)
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("monkey", ["", "1"], ids=["plain", "patched"])
def test_gevent_in_views(server: Start, monkey: str, threads: int) -> None:
    """Its libev is its own; so it works, in each thread and in each generation."""
    s = server("uses_gevent", threads=threads, workers=2, env={"MONKEY": monkey})
    for generation in (2, 3):
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(lambda _: s.get("/greenlets").text, range(24)))
        assert set(answers) == {GREENLETS}
        assert s.get("/thread-pool").text == "4950"
        assert s.get("/timed-out").text == "timed out"
        s.signal(SIGHUP)
        assert s.log_contains(rf"reloaded: all workers are of generation {generation}$", 30)


@pytest.mark.skipif(
    FLAVOUR == "tsan", reason="gevent switches stacks without telling the sanitizer"
)
@pytest.mark.parametrize(
    ("before", "loop", "threads"),
    [
        ("import", "libev-cext", 1),
        ("import", "libuv-cffi", 4),
        ("import-patched", "libev-cext", 4),
        ("import-patched", "libuv-cffi", 1),
        ("prewarm", "libev-cext", 4),
        ("prewarm", "libuv-cffi", 1),
    ],
)
def test_gevent_before_the_fork(server: Start, before: str, loop: str, threads: int) -> None:
    """The hub that was used then is made anew in each worker, so that its first wait ends."""
    used = "/joined /greenlets /thread-pool /resolved"
    at_import = before.startswith("import")
    env = {
        "AT_IMPORT": used if at_import else "",
        "GEVENT_LOOP": loop,
        "MONKEY": "1" if "patched" in before else "",
    }
    prewarm = [] if at_import else used.split()
    s = server("uses_gevent", threads=threads, workers=2, env=env, prewarm=prewarm)
    for generation in (2, 3):
        for pid in wait_for_workers(s, 2):
            begun = time.monotonic()
            wait_for(lambda pid=pid: s.get("/joined").text == f"joined {pid}")
            assert time.monotonic() - begun < 15  # whoever waits in vain waits for 20
        assert s.get("/greenlets").text == GREENLETS
        assert s.get("/thread-pool").text == "4950"
        assert s.get("/resolved").text == "True"
        s.signal(SIGHUP)
        assert s.log_contains(rf"reloaded: all workers are of generation {generation}$", 30)
    assert "event loop" not in s.log
