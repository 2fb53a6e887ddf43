"""`myserver --health`: what an exec probe or the HEALTHCHECK of an image runs."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import PATIENCE_S, SLOWNESS, Server, can_connect, free_port, run, wait_for

Start = Callable[..., Server]


def ask(*arguments: str | Path, cwd: Path | None = None) -> tuple[int, str]:
    """The exit status and the one line."""
    done = run("--health", *arguments, cwd=cwd)
    assert done.stderr == ""
    assert done.stdout.endswith("\n") and done.stdout.count("\n") == 1
    return done.returncode, done.stdout.rstrip("\n")


@pytest.mark.parametrize(
    "address", ["unix:c.sock", "/c.sock", "127.0.0.1:", "0.0.0.0:", ":", "[::1]:", "[::]:"]
)
def test_ready_by_every_form_of_address(server: Start, address: str) -> None:
    """The one that the server has; one for all addresses is that of this machine."""
    s = server(start=False)
    if address.endswith(":"):
        address += str(free_port())
    elif address.startswith("/"):
        address = f"{s.dir}{address}"
    s.command.append(f"--control={address}")
    s.start()
    assert ask("--control", address, cwd=s.dir) == (0, "ready")


def test_settings_of_the_server(server: Start, tmp_path: Path) -> None:
    """The same ini file, with all that it has; the command line replaces a setting."""
    s = server(control="unix:control.sock")
    (tmp_path / "it.ini").write_text(
        f"[myserver]\napp = gone\nchdir = {s.dir}\ntmp-dir = /nonexistent\ncontrol = unix:control.sock\n"
    )
    assert ask("-c", tmp_path / "it.ini") == (0, "ready")
    assert ask(tmp_path / "it.ini", "--workers=3") == (0, "ready")
    status, line = ask(tmp_path / "it.ini", "--control=unix:other.sock")
    assert (status, line) == (
        1,
        "not ready: no answer from unix:other.sock: No such file or directory",
    )


def test_no_worker_serves(server: Start) -> None:
    """The control process answers, and the server is paused."""
    s = server(control="unix:control.sock")
    s.signal(signal.SIGWINCH)
    said = (1, "not ready: no worker serves")
    wait_for(lambda: ask("--control=unix:control.sock", cwd=s.dir) == said)
    s.signal(signal.SIGTTIN)
    wait_for(lambda: ask("--control=unix:control.sock", cwd=s.dir) == (0, "ready"))


def test_a_server_that_has_ended(server: Start) -> None:
    port = free_port()
    s = server(control=f"127.0.0.1:{port}")
    assert s.stop() == 0
    wait_for(lambda: not can_connect(("127.0.0.1", port)))
    said = f"not ready: no answer from 127.0.0.1:{port}: Connection refused"
    assert ask(f"--control=127.0.0.1:{port}") == (1, said)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "not ready: no answer from unix:fake.sock: it closes the connection: it answers root "
              "and the user that the server runs as"),
        (b"SSH-2.0-x\r\n", "not ready: unix:fake.sock does not speak as the control process does"),
        (b"HTTP/1.1 200 OK\r\n", "not ready: unix:fake.sock does not speak as the control process does"),
        (b"HTTP/1.1 503 X\r\n\r\nno\x1bway\nx", "not ready: no?way"),
        (b"HTTP/1.1 500 X\r\n\r\n", "not ready: "),
        (b"x" * 100_000, "not ready: unix:fake.sock does not speak as the control process does"),
        (None, "not ready: no answer from unix:fake.sock: Connection timed out"),
    ],
    ids=["nothing", "another", "cut", "refused", "empty", "long", "silent"],
)  # fmt: skip
def test_answers_of_others(tmp_path: Path, answer: bytes | None, said: str) -> None:
    """Whoever listens there: one line, no byte of which is one for terminals, and in bounded time."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "fake.sock"))
        listener.listen()
        done = threading.Event()

        def serve() -> None:
            listener.settimeout(PATIENCE_S * SLOWNESS)
            try:
                client, _ = listener.accept()
            except TimeoutError:
                return  # nobody asks
            with client:
                client.recv(4096)
                if answer is None:
                    done.wait()
                else:
                    try:
                        client.sendall(answer)
                    except OSError:
                        pass  # it has enough

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            assert ask("--control=unix:fake.sock", cwd=tmp_path) == (1, said)
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--health asks the address of control, which is not set; write control = ADDR in the "
             "ini file of the server, or --control ADDR"),
        (["--control=fd://3"], 'command line: --control: "fd://3" is a descriptor of the server; '
                               "write the address that it is bound to"),
        (["--control=nowhere"], "command line: --control: nowhere is none of "),
        (["--control=:1", "--chdir=/nonexistent"], "command line: --chdir: cannot change to "),
        (["--check-config"], "command line: of --check-config, --print-config and --health two are "),
        (["-c", "gone.ini"], "gone.ini: cannot be opened: "),
    ],
)  # fmt: skip
def test_mistakes(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    """Status 2, as for every other command line that is wrong."""
    done = run("--health", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("myserver: " + sentence) and done.stderr.count("\n") == 1
