"""Starts the real program for a test and looks at it from outside.

Waiting is always for a condition, with a deadline. MYSERVER_BIN names the program,
MYSERVER_FLAVOUR the way it was built (release, asan, tsan), MYSERVER_VENV the virtualenv whose
packages the applications may import.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import random
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGTERM
from types import TracebackType
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
APPS = ROOT / "tests" / "apps"
REQUESTS = ROOT / "tests" / "requests"
SHOP = ROOT / "shop"
RESERVED_FROM = 512  # descriptors that hold the names of ports
BINARY = Path(os.environ.get("MYSERVER_BIN", ROOT / "build" / "myserver"))
FLAVOUR = os.environ.get("MYSERVER_FLAVOUR", "release")
VENV = Path(os.environ.get("MYSERVER_VENV", ROOT / ".venv"))

# Sanitizers make everything slower; deadlines are stretched by this.
SLOWNESS = {"release": 1, "asan": 4, "tsan": 8}[FLAVOUR]

# Variables that would change what is tested.
FOREIGN_ENV = (
    "DATABASE_URL",
    "DJANGO_SETTINGS_MODULE",
    "FORWARDED_ALLOW_IPS",
    "GUNICORN_CMD_ARGS",
    "PORT",
    "PYTHONHOME",
    "PYTHONPATH",
    "SCRIPT_NAME",
    "VIRTUAL_ENV",
    "WEB_CONCURRENCY",
)

# A log with one of these fails the test, whatever else it checked.
# A worker that hangs is killed, and has then "left".
DEATH = re.compile(r"\bdied:|: killing it$")
BY_SIGNAL = re.compile(r"\bdied\b.*?: signal (\d+)")
# Of these no process of ours dies unless the application brings it about: a bug, also in tests on
# deaths.
CRASHES = {SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV}
PROBLEMS = [
    re.compile(pattern)
    for pattern in (
        r"Assertion .* failed",
        r"ERROR: \w+Sanitizer",
        r"WARNING: ThreadSanitizer",
        r"SUMMARY: \w+Sanitizer",
        r"\bruntime error: ",
        r"\bleaked\b",
        r"Fatal Python error",
        r"stack smashing detected|buffer overflow detected",
        r"(?:malloc|free|realloc)\(\): ",
        r"^double free",
    )
]

T = TypeVar("T")


class StartFailed(Exception):
    """The program ended, or did not get ready, when it should have served."""

    def __init__(self, status: int | None, log: str) -> None:
        super().__init__(f"not ready (exit status {status}):\n{log}")
        self.status = status
        self.log = log


@dataclass
class Response:
    """A response as a simple client sees it."""

    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """What the body says."""
        return json.loads(self.body)


@dataclass
class Process:
    """What /proc says of one process."""

    pid: int
    parent: int
    group: int
    state: str
    name: str  # at most 15 bytes: myserver:master, myserver:mold, myserver:worker
    title: str


# How long to wait where it is not said. Far more than anything takes on a machine that is busy with
# other things, and less than the default of graceful-timeout, so that a worker that hangs is seen.
PATIENCE_S = 20.0


def wait_for(condition: Callable[[], T | None], timeout: float = PATIENCE_S, what: str = "") -> T:
    """Wait until `condition` returns something true and return that; fail after `timeout`."""
    deadline = time.monotonic() + timeout * SLOWNESS
    while True:
        if result := condition():
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout * SLOWNESS:g} s for {what or condition}")
        time.sleep(0.01)


def processes(group: int | None = None) -> list[Process]:
    """Every process that can be seen; or those of a process group, which is found much sooner."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if group is not None and os.getpgid(int(pid)) != group:
                continue
            entry = Path("/proc", pid)
            # First, for who ends has no title any more: then it is a zombie below.
            title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            before, _, after = (entry / "stat").read_text(errors="replace").rpartition(")")
        except OSError:
            continue
        state, parent, its_group = after.split()[:3]
        name = before.partition("(")[2]
        found.append(Process(int(pid), int(parent), int(its_group), state, name, title.strip()))
    return found


def descriptors(pid: int) -> dict[int, str]:
    """What a process has open, by number; not what it closes meanwhile."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[int(entry.name)] = os.readlink(entry)
    return found


def free_port() -> int:
    """A TCP port that nobody listens on. As long as this process runs no other one is given it: not
    by this function, and not by the kernel, which chooses from higher ones."""
    for port in random.sample(range(10_000, 32_768), 1000):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0myserver-tests-port-{port}")
            with socket.socket() as s:
                s.bind(("127.0.0.1", port))
        except OSError:
            name.close()
            continue
        # The name is taken until this process ends. High, so that low numbers stay free for tests
        # that start servers with few descriptors.
        fcntl.fcntl(name, fcntl.F_DUPFD_CLOEXEC, RESERVED_FROM)
        name.close()
        return port
    raise AssertionError("no port is free")


def can_connect(address: tuple[str, int] | str) -> bool:
    """Whether somebody accepts connections there."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as s:
        return s.connect_ex(address) == 0


def sanitizer_env() -> dict[str, str]:
    """The options of the sanitizers for a program that embeds Python."""
    lsan = ROOT / "tests" / "tools" / "lsan.supp"
    tsan = ROOT / "tests" / "tools" / "tsan.supp"
    return {
        "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=0:abort_on_error=0",
        "LSAN_OPTIONS": f"suppressions={lsan}:print_suppressions=0",
        "TSAN_OPTIONS": f"suppressions={tsan}:die_after_fork=0:atexit_sleep_ms=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this process without what would change a test, with `env` added."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in FOREIGN_ENV and not name.startswith("MYSERVER_")
    }
    return clean | sanitizer_env() | dict(env or {})


def run(
    *args: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the program to its end (--help, --check-config, errors); never raises on a status."""
    return subprocess.run(
        [str(BINARY), *map(str, args)],
        env=environment(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60 * SLOWNESS,
    )


def arguments(options: Mapping[str, Any]) -> list[str]:
    """Keyword options as command line arguments: `keep_alive="2s"` is `--keep-alive=2s`.

    A list repeats the option, True and False are `--name` and `--no-name`, None leaves it out.
    """
    args = []
    for field, value in options.items():
        name = field.replace("_", "-")
        if isinstance(value, bool):
            args.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, (list, tuple)):
            args += [f"--{name}={item}" for item in value]
        elif value is not None:
            args.append(f"--{name}={value}")
    return args


def read_all(s: socket.socket) -> bytes:
    """Everything up to the end of the connection, or what had come when the socket timed out."""
    data = b""
    while True:
        try:
            piece = s.recv(65536)
        except (TimeoutError, ConnectionResetError):
            return data
        if not piece:
            return data
        data += piece


def engine_of(program: Path) -> Path:
    """The engine that lies beside a program in a build directory."""
    (engine,) = program.resolve().parent.glob("engine-3.*.so")
    return engine


def readelf(option: str, file: Path = BINARY) -> str:
    """What readelf says of the program, or of its engine."""
    command = ["readelf", "--wide", option, str(file)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def whole_lines(text: str) -> list[str]:
    """Without the last one while it is being written: who reads a file sees a write(2) in parts."""
    return text[: text.rfind("\n") + 1].splitlines()


class Server:
    """One run of the program in a temporary directory of its own.

    `options` become `--name=value`. Relative unix sockets in `binds` are made in `dir`. Tests on
    deaths pass `expect_deaths=True`, and which of CRASHES the application brings about as
    `expect_signals`. `expect_status` is the master's at its end.
    """

    def __init__(
        self,
        app: str | None = "hello:application",
        *,
        workers: int | str = 1,
        threads: int = 1,
        binds: Sequence[str] = ("127.0.0.1:0",),
        args: Sequence[str | Path] = (),
        env: Mapping[str, str] | None = None,
        expect_deaths: bool = False,
        expect_signals: Collection[int] = (),
        expect_status: int = 0,
        binary: Path = BINARY,
        **options: Any,
    ) -> None:
        self.expect_deaths = expect_deaths
        self.expect_signals = expect_signals
        self.expect_status = expect_status
        self.dir = Path(tempfile.mkdtemp(prefix="myserver-"))
        self.log_path = self.dir / "server.log"
        self.names: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.killed = False  # by us
        self.served = False  # wherever it has said so
        self.begin = 0  # of what this run has written to the log
        paths = options.pop("pythonpath", [])
        paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
        options.setdefault("virtualenv", VENV if VENV.exists() else None)
        options |= {"workers": workers, "threads": threads, "bind": list(binds)}
        options["pythonpath"] = [*paths, APPS]
        self.command = [str(binary), *arguments(options), *map(str, args), *([app] if app else [])]
        self.env = environment(env)

    def __enter__(self) -> Server:
        return self.start() if self.process is None else self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- life

    def start(
        self, timeout: float = 60.0, streams: Path | None = None, fds: Collection[int] = ()
    ) -> Server:
        """Start and wait until all workers serve; StartFailed when that does not come.

        `streams`: where stdout and stderr go when that is not the log. `fds`: what it inherits.
        """
        self.killed = self.served = False
        self.begin = len(self.log)
        with (streams or self.log_path).open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.dir,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=fds,
            )
        try:
            wait_for(lambda: self._is_ready() or self.status is not None, timeout, "ready")
        except AssertionError:
            self.kill()
            raise StartFailed(None, self.log[self.begin :]) from None
        if not self._is_ready():
            raise StartFailed(self.status, self.log[self.begin :])
        self.served = True
        self.names = re.findall(r"listening on (\S+)", self.log[self.begin :])
        return self

    def _is_ready(self) -> bool:
        return re.search(r"\bready: ", self.log[self.begin :]) is not None

    @property
    def pid(self) -> int:
        """The master's."""
        assert self.process is not None, "not started"
        return self.process.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self.process.poll() if self.process else None

    def signal(self, number: int) -> None:
        """Send a signal to the master."""
        self.killed |= number == SIGKILL
        os.kill(self.pid, number)

    def stop(self, number: int = SIGTERM, timeout: float = PATIENCE_S) -> int:
        """Stop it, if it runs, and return its exit status; AssertionError when it does not end."""
        if self.status is None:
            self.signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """Wait for its end and return the exit status."""
        assert self.process is not None, "not started"
        try:
            return self.process.wait(timeout * SLOWNESS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running; the log:\n{self.log}") from None

    def kill(self) -> None:
        """End the master and all that came from it, at once."""
        if self.process is None:
            return
        self.killed |= self.status is None
        wait_for(self._has_killed_all, what="all to die")
        self.process.wait(PATIENCE_S * SLOWNESS)

    def _has_killed_all(self) -> bool:
        """Kill those that are there, also who was forked meanwhile; whether there were none."""
        found = self.relatives()
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process.pid, SIGKILL)
        return not found

    def close(self) -> None:
        """Stop it somehow and remove its directory."""
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    # ---- what it is made of

    def relatives(self) -> list[Process]:
        """The master, the mold and the workers, as far as they live."""
        return [p for p in processes(self.pid) if p.state != "Z"]

    def workers(self) -> list[int]:
        """The pids of the workers, without those that have left their place to another and end."""
        return sorted(p.pid for p in self._all_workers() if not p.title.endswith(" ending"))

    def serving(self) -> list[int]:
        """The pids of those of them that have said that they serve."""
        said = re.findall(r"worker \d+ \(pid (\d+)\) serves$", self.log, re.MULTILINE)
        return [pid for pid in self.workers() if str(pid) in said]

    def ending_workers(self) -> list[int]:
        """The pids of those."""
        return sorted(p.pid for p in self._all_workers() if p.title.endswith(" ending"))

    def _all_workers(self) -> list[Process]:
        return [p for p in self.relatives() if p.name == "myserver:worker"]

    def molds(self) -> list[int]:
        """The pids of the molds: one, or two while a reload is under way."""
        return sorted(p.pid for p in self.relatives() if p.name == "myserver:mold")

    # ---- what it says

    @property
    def log(self) -> str:
        """The error log, which also holds what the application printed; but no line that is half
        written."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return text[: text.rfind("\n") + 1]

    def log_contains(
        self, pattern: str, timeout: float = PATIENCE_S, begin: int = 0
    ) -> re.Match[str] | None:
        """Wait for a line that matches, behind `begin`; None when it does not come."""
        regex = re.compile(pattern, re.MULTILINE)
        try:
            return wait_for(lambda: regex.search(self.log[begin:]), timeout)
        except AssertionError:
            return None

    def problems(self) -> list[str]:
        """What no test may leave behind: reports of bugs in the log, processes, sockets."""
        found = [line for line in self._all_logs().splitlines() if self._is_problem(line)]
        if self.status is None:
            return found
        if self._has_wrong_status():
            found.append(f"exit status {self.status}")
        found += [f"still there: {p.pid} {p.name}" for p in self.relatives()]
        found += [
            f"left behind: {path.name}"
            for path in self.dir.iterdir()
            if stat.S_ISSOCK(path.lstat().st_mode) and not self.killed
        ]
        return found

    def _all_logs(self) -> str:
        """What it has written, also to another file, or to one that was moved away."""
        paths = {self.log_path, self.dir / "server.log", *self.dir.rglob("*.log*")}
        return "\n".join(
            path.read_text(errors="replace")
            for path in sorted(paths)
            if path.is_file() and not path.name.startswith("access")
        )

    def _is_problem(self, line: str) -> bool:
        if any(pattern.search(line) for pattern in PROBLEMS):
            return True
        death = BY_SIGNAL.search(line)
        if death and int(death[1]) in CRASHES - set(self.expect_signals):
            return True
        return DEATH.search(line) is not None and not self.expect_deaths

    def _has_wrong_status(self) -> bool:
        """Whether the master ended as it should not; a failed start has a status of its own."""
        if self.killed:
            return False
        served = self.served or self._is_ready()
        status = self.status
        return status != self.expect_status and (served or (status is not None and status < 0))

    # ---- talking to it

    @property
    def address(self) -> tuple[str, int] | str:
        """Where the first listener is: (host, port), or the path of a unix socket."""
        return self.address_of(self.names[0])

    def address_of(self, name: str) -> tuple[str, int] | str:
        """The address of a listener from its name in the log."""
        name = name.removeprefix("uwsgi:")
        if name.startswith("unix:"):
            return str(self.dir / name.removeprefix("unix:"))
        host, _, port = name.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def port(self) -> int:
        """The TCP port of the first listener."""
        address = self.address
        assert not isinstance(address, str), "listens on a unix socket"
        return address[1]

    @property
    def url(self) -> str:
        """The root of the first listener, without a slash at its end."""
        return f"http://{self.names[0]}"

    def connect(
        self, timeout: float = PATIENCE_S, name: str | None = None, source: str | None = None
    ) -> socket.socket:
        """A new connection to the first listener, or to the one named; from an address of this machine."""
        address = self.address_of(name) if name else self.address
        if isinstance(address, str):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(timeout * SLOWNESS)
            s.connect(address)
            return s
        bound = (source, 0) if source else None
        return socket.create_connection(address, timeout * SLOWNESS, bound)

    def raw(self, data: bytes, timeout: float = PATIENCE_S) -> bytes:
        """Send bytes; what comes back until the connection is closed or silent for `timeout`."""
        with self.connect(timeout) as s:
            with suppress(BrokenPipeError, ConnectionResetError):
                s.sendall(data)
            return read_all(s)

    def get(self, path: str = "/", headers: Mapping[str, str] | None = None) -> Response:
        """One GET on a connection of its own."""
        return self.request("GET", path, headers=headers)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = PATIENCE_S,
    ) -> Response:
        """One request on a connection of its own."""
        client = http.client.HTTPConnection("localhost", timeout=timeout * SLOWNESS)
        client.sock = self.connect(timeout)
        try:
            client.request(method, path, body, dict(headers or {}))
            response = client.getresponse()
            return Response(response.status, response.reason, response.headers, response.read())
        finally:
            client.close()
