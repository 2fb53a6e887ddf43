"""One life of one server with one application: start, users, an event, TERM, and what is left."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness import BINARY, free_port, processes

if TYPE_CHECKING:
    from cases import Case

APPS = Path(__file__).resolve().parent / "apps"
VENV = Path(sys.prefix)

WORKERS = 2
CLIENTS = 4
ANSWER_S = 12
HANGS_S = 4.5  # the applications wait 5 s for their helpers
START_S = 40
GRACE_S = 10  # graceful-timeout of both servers
STOP_S = GRACE_S + 10
REPLACED_S = 40
REQUESTS = 80
MAX_REQUESTS = 12
PAUSE_S = 0.005  # of a client between two requests
WAITING_PAUSE_S = 0.2  # the same after REQUESTS, for new workers: the queues of agents are bounded
GIVE_UP = 6  # so many requests that hang end the life early

EVENTS = ("TERM", "reload", "recycling")
SERVERS = ("myserver", "myserver, prewarm", "gunicorn --preload")

WITHOUT_PRELOAD = "myserver, preload = false"
THREADS = (1, 4)

MARK = "COMPATIBILITY_LIFE"

# What a log has when a process did not end well, whatever the clients saw.
DEATHS = re.compile(
    r"Fatal Python error|\bdied\b|Segmentation fault|was sent SIG(?:SEGV|KILL|ABRT|BUS)"
    r"|WORKER TIMEOUT|leaked \w+ objects|killed"
)
RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Exit|Timeout|Empty|Refused)\b(?::.*)?$")


@dataclass
class Answer:
    """What a client got; status 0 and the reason when it got nothing."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reason: str = ""

    @property
    def facts(self) -> dict[str, object]:
        """The JSON of the body."""
        found = json.loads(self.body)
        return found if isinstance(found, dict) else {}


class Life:
    """`problems` is empty when everything was right."""

    def __init__(self, case: Case, server: str, threads: int, event: str) -> None:
        self.case, self.server, self.threads, self.event = case, server, threads, event
        self.dir = Path(tempfile.mkdtemp(prefix=f"compatibility-{case.name}-"))
        self.mark = uuid.uuid4().hex
        self.port = free_port()
        self.problems: list[str] = []
        self.wrong: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.numbers = iter(range(1, 10**6))
        self.asked = 0
        self.users: set[str] = set()  # who got an answer
        self.workers: set[str] = set()
        self.silent = 0
        self.said: list[str] = []  # the warnings in the log
        self.process: subprocess.Popen[bytes] | None = None

    # ---- the server

    def command(self) -> list[str]:
        """The server with its settings; everything that is not named is at its default."""
        recycling = [f"--max-requests={MAX_REQUESTS}"] if self.event == "recycling" else []
        common = [f"--workers={WORKERS}", f"--threads={self.threads}", *recycling]
        common += [f"--bind=127.0.0.1:{self.port}", f"--graceful-timeout={GRACE_S}"]
        app = f"{self.case.module}:application"
        launcher = [*self.case.launcher]
        if launcher:
            launcher[0] = str(VENV / "bin" / launcher[0])
        if self.server.startswith("gunicorn"):
            gunicorn = [str(VENV / "bin" / "gunicorn"), "--preload", "--max-requests-jitter=0"]
            return [*launcher, *gunicorn, f"--pythonpath={APPS}", *common, app]
        ours = [str(BINARY), f"--virtualenv={VENV}", f"--pythonpath={APPS}"]
        if "prewarm" in self.server:
            ours += [f"--prewarm={self.case.path('prewarm')}"]
        if "preload = false" in self.server:
            ours += ["--no-preload"]
        return [*launcher, *ours, *common, app]

    @property
    def log(self) -> str:
        """What server and application have written."""
        path = self.dir / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> bool:
        """Until the workers are there; False, with a problem, when they do not come."""
        kept = ("PATH", "HOME", "LANG")
        env = {name: os.environ[name] for name in kept if name in os.environ}
        env |= {MARK: self.mark, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        env |= self.case.prepare(self)
        with (self.dir / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.dir,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if self.server.startswith("gunicorn"):
            is_ready = lambda: len(re.findall("Booting worker", self.log)) >= WORKERS  # noqa: E731
        else:
            is_ready = lambda: re.search(r"\bready: ", self.log) is not None  # noqa: E731
        wait(lambda: is_ready() or self.status is not None, START_S)
        if is_ready() and self.status is None:
            return True
        how = "hangs" if self.status is None else "is refused"
        self.problems.append(f"the start {how}: {self.last_words()}")
        return False

    @property
    def status(self) -> int | None:
        """The exit status of the master."""
        return self.process.poll() if self.process else None

    def last_words(self) -> str:
        """What the log says of an error: the exception below the first such line, or the line."""
        lines = [line for line in self.log.splitlines() if line.strip()] or ["nothing in the log"]
        telling = [n for n, line in enumerate(lines) if re.search(r"\[error\]|Error|rror:", line)]
        if not telling:
            return plain(lines[-1])
        first = telling[0]
        below = list(itertools.takewhile(is_detail, lines[first + 1 :]))
        return plain(below[-1] if below else lines[telling[-1]])

    def signal(self, number: int) -> None:
        """To the master."""
        if self.process and self.status is None:
            os.kill(self.process.pid, number)

    # ---- the clients

    def ask(self) -> Answer:
        """One request of a new user, on a connection of its own; what is wrong is counted."""
        with self.lock:
            user = f"user{next(self.numbers)}"
            self.asked += 1
        begun = time.monotonic()
        answer = self.get(self.case.path(user), self.case.headers(user))
        took = time.monotonic() - begun
        try:
            wrong = self.case.wrong(self, user, answer)
        except (ValueError, KeyError) as error:
            wrong = f"unreadable ({error!r})"
        with self.lock:
            if wrong:
                self.wrong[wrong] += 1
            if answer.status:
                self.users.add(user)
            self.silent += bool(wrong) and (answer.status == 0 or took > HANGS_S)
        return answer

    def get(self, path: str, headers: dict[str, str]) -> Answer:
        """GET, whatever comes back."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        try:
            client.request("GET", path, headers={"Connection": "close"} | headers)
            response = client.getresponse()
            body = response.read()
        except TimeoutError:
            return Answer(0, reason=f"no answer within {ANSWER_S} s")
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, reason=f"no answer ({type(error).__name__})")
        finally:
            client.close()
        return Answer(response.status, dict(response.headers), body)

    def visit(self, is_enough: Callable[[], bool]) -> None:
        """CLIENTS clients ask until it is enough, or the server is silent too often."""

        def run() -> None:
            while not is_enough() and self.silent < GIVE_UP and self.status is None:
                answer = self.ask()
                if answer.status == 200:
                    with self.lock:
                        self.workers.add(self.case.worker(answer))
                time.sleep(PAUSE_S if self.asked < REQUESTS else WAITING_PAUSE_S)

        threads = [threading.Thread(target=run) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    # ---- the events

    def run(self) -> list[str]:
        """The whole life; the problems."""
        try:
            if self.start():
                {"TERM": self.serve, "reload": self.reload, "recycling": self.recycle}[self.event]()
                self.stop()
                self.problems += [
                    f"{count} of {self.asked} answers: {what}" for what, count in self.wrong.items()
                ]
                self.problems += self.case.after(self)
                self.problems += self.log_problems()
        finally:
            self.said = self.warnings()
            self.kill()
        return self.problems

    def serve(self) -> None:
        """Requests up to the moment of TERM."""
        self.visit(lambda: self.asked >= REQUESTS)

    def recycle(self) -> None:
        """Requests until workers have been replaced several times."""
        deadline = time.monotonic() + REPLACED_S
        self.visit(
            lambda: (
                (self.asked >= REQUESTS and len(self.workers) >= WORKERS + 3)
                or time.monotonic() > deadline
            )
        )
        if self.status is None and not self.wrong and len(self.workers) < WORKERS + 3:
            self.problems.append(f"workers are not replaced after {MAX_REQUESTS} requests")

    def reload(self) -> None:
        """Requests before, while and after HUP replaces all workers."""
        self.visit(lambda: self.asked >= REQUESTS // 2)
        old, self.workers = self.workers, set()
        latest = self.asked

        def is_over() -> bool:
            nonlocal latest
            if "reload failed" in self.log or time.monotonic() > deadline:
                return True
            with self.lock:
                if self.workers & old:
                    self.workers -= old
                    latest = self.asked
            return self.asked - latest >= REQUESTS // 2 and bool(self.workers)

        deadline = time.monotonic() + REPLACED_S
        self.signal(signal.SIGHUP)
        self.visit(is_over)
        if failed := re.search(r"reload failed.*", self.log):
            self.problems.append(f"the reload is refused: {plain(failed[0])}")
        elif time.monotonic() > deadline:
            self.problems.append(f"not all workers are replaced {REPLACED_S} s after HUP")

    def stop(self) -> None:
        """TERM, at once after the last answer; nothing is left of the server afterwards."""
        self.case.before_stop(self)
        begun = time.monotonic()
        self.signal(signal.SIGTERM)
        if not wait(lambda: self.status is not None, STOP_S):
            self.problems.append(f"still there {STOP_S} s after TERM")
            return
        took = time.monotonic() - begun
        if took >= GRACE_S - 1:
            self.problems.append(f"{took:.0f} s from TERM to the end")
        if self.status != 0:
            self.problems.append(f"exit status {self.status}")
        # Processes of the application may end a moment after the server.
        if not wait(lambda: not self.relatives(), 3):
            self.problems.append(f"{len(self.relatives())} processes are left after the end")

    def relatives(self) -> list[int]:
        """All processes that came from this life, also those that have left its group.

        Who changes its title may have written over its environment: the group is asked, too.
        """
        found = []
        mark = f"{MARK}={self.mark}".encode()
        for process in processes():
            try:
                environ = Path(f"/proc/{process.pid}/environ").read_bytes()
            except OSError:
                continue
            is_of_group = self.process is not None and process.group == self.process.pid
            if (is_of_group or mark in environ) and process.state != "Z":
                found.append(process.pid)
        return found

    def kill(self) -> None:
        """Ends what is left, and removes the directory."""
        for pid in self.relatives():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process:
            self.process.wait(10)
        self.case.close()
        if keep := os.environ.get("COMPATIBILITY_LOGS"):
            name = f"{self.case.name}-{self.server}-{self.threads}-{self.event}".replace(" ", "")
            Path(keep).mkdir(parents=True, exist_ok=True)
            (Path(keep) / f"{name}.log").write_text(self.log)
        shutil.rmtree(self.dir, ignore_errors=True)

    # ---- the log

    def log_problems(self) -> list[str]:
        """Deaths and exceptions in the log that no client was told of."""
        lines = self.log.splitlines()
        found = Counter(plain(line) for line in lines if DEATHS.search(line))
        raised: Counter[str] = Counter()
        for number, line in enumerate(lines):
            if line.strip().startswith(("Traceback (most", "Exception ignored in")):
                behind = (text.strip() for text in lines[number + 1 : number + 80])
                raised[next(filter(RAISED.match, behind), line.strip())] += 1
        problems = [f"{what} ({count} in the log)" for what, count in found.most_common(1)]
        problems += [f"{what} ({count} in the log)" for what, count in raised.most_common(2)]
        return problems

    def warnings(self) -> list[str]:
        """What the server has warned of."""
        found = re.findall(r"^.*\bwarning\b.*$", self.log, re.MULTILINE | re.IGNORECASE)
        found = [line for line in found if "requests are served as root" not in line]
        return list(dict.fromkeys(map(plain, found)))


def plain(line: str) -> str:
    """A line of a log without what differs from run to run, and not too long."""
    line = re.sub(r"^\S+ \S+ \[\w+\] \w+(?: \d+)? \(\d+\): ", "", line.strip())  # myserver's
    line = re.sub(r"^\[[^]]*\] \[\d+\] \[\w+\] ", "", line)  # gunicorn's
    line = re.sub(r"\bpid:? ?\d+", "pid N", line)
    line = re.sub(r"\bworker \d+\b", "worker N", line)
    line = re.sub(r"\bdescriptor \d+", "descriptor N", line)
    line = re.sub(r"(127\.0\.0\.1'?[,:] ?)\d+", r"\1PORT", line)
    line = re.sub(r"\blistener-\w+", "listener-N", line)
    line = re.sub(r"/(?:[^/\s'\"]+/)+(?=[^/\s]+)", "", line)
    return line if len(line) < 300 else f"{line[:297]}..."


def is_detail(line: str) -> bool:
    """myserver indents what belongs to the line above."""
    return line.startswith("  ")


def wait(condition: Callable[[], object], timeout_s: float) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
