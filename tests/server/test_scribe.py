"""log-format = json: what is printed around the server's log is a record, too."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from harness import Server, processes, wait_for, whole_lines

Start = Callable[..., Server]
Record = dict[str, Any]


def start_prints(server: Start, **options: Any) -> Server:
    """A server whose log is JSON, in the file that the options name."""
    s = server("utters", log_format="json", start=False, **options)
    if name := options.get("error_logfile"):
        s.log_path = s.dir / name
    s.start()
    s.names = [name.rstrip('"}') for name in s.names]
    return s


def records(s: Server) -> list[Record]:
    """All of the log: each line must be an object."""
    return [json.loads(line) for line in whole_lines(s.log)]


def record_of(s: Server, message: str) -> Record:
    """Wait for the one record with this message."""
    wait_for(lambda: any(r.get("message") == message for r in records(s)), what=message)
    (record,) = (r for r in records(s) if r.get("message") == message)
    return record


def scribes(s: Server) -> list[int]:
    """The pids of the processes that write what others print."""
    return [p.pid for p in s.relatives() if p.name == "myserver:scribe"]


@pytest.mark.parametrize("error_logfile", [None, "error.log"])
def test_everything_that_is_printed_is_a_record(server: Start, error_logfile: str | None) -> None:
    s = start_prints(server, error_logfile=error_logfile, workers=2)
    for path in ("/lines", "/objects", "/traces", "/others"):
        assert s.get(path).status == 200
    assert record_of(s, "printed by the import")["process"] == "mold"
    workers = set(s.workers())
    for message in ("on stdout", "on stderr", "bytes \ufffd\x1b[1m", "half a line", "from C"):
        record = record_of(s, message)
        assert record["pid"] in workers and record["level"] == "info"
        assert record["process"] in ("worker 1", "worker 2")
        assert datetime.fromisoformat(record["time"]).tzinfo is not None
    assert record_of(s, "from a child")["process"] in ("sh", "application")  # it may be gone
    assert record_of(s, "no end")["process"] in ("sh", "application")
    assert record_of(s, '{"level": "forged"')["level"] == "info"
    assert {"level": "own", "message": "caf\xe9", "of": {"a": [1, None]}} in records(s)
    for error in ("ValueError: printed", "KeyError: 'missing'"):
        record = record_of(s, error)
        assert record["level"] == "error"
        assert record["detail"].startswith("Traceback (most recent call last):\n  File ")
        assert record["detail"].endswith(f"\n{error}\n")
    assert s.stop() == 0
    assert records(s)[-1]["message"] == "stopped"


def test_the_last_words_of_a_crash(server: Start) -> None:
    s = start_prints(server, expect_deaths=True, expect_signals=[signal.SIGSEGV])
    (pid,) = s.workers()
    with pytest.raises(ConnectionError):
        s.get("/crash")
    record = record_of(s, "Fatal Python error: Segmentation fault")
    assert record["pid"] == pid
    wait_for(lambda: any("in crash" in r.get("message", "") for r in records(s)))
    # The fixture takes these words for a crash of the server's own.
    s.log_path.write_text(s.log.replace("Fatal Python error", "fatal error"))


def test_a_scribe_that_ends_loses_nothing(server: Start) -> None:
    """Another one goes on reading; meanwhile nobody's print fails."""
    s = start_prints(server, expect_deaths=True)
    (pid,) = scribes(s)
    os.kill(pid, signal.SIGSTOP)
    for i in range(50):
        assert s.get(f"/number?{i}").status == 200
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: any("the scribe" in r["message"] for r in records(s)))
    for i in range(50, 100):
        assert s.get(f"/number?{i}").status == 200
    wait_for(lambda: s.log.count('"number ') == 100)
    assert [r["message"] for r in records(s) if r["message"].startswith("number ")] == [
        f"number {i}" for i in range(100)
    ]
    assert scribes(s) not in ([], [pid])


def test_all_is_written_before_the_master_ends(server: Start) -> None:
    """Also from several that print at once, more than the stream holds."""
    s = start_prints(server, workers=3)
    flag = s.dir / "flag"
    threads = [threading.Thread(target=s.get, args=(f"/until?{flag}",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len({r["pid"] for r in records(s) if "xxx" in r["message"]}) == 3)
    flag.touch()
    s.stop()
    for thread in threads:
        thread.join()
    found = records(s)
    assert found[-1]["message"] == "stopped" or "counted" in found[-1]["message"]
    for pid in {r["pid"] for r in found if "xxx" in r["message"]}:
        said = [r["message"] for r in found if r["pid"] == pid]
        numbers = [int(m.partition(" ")[0]) for m in said if m.endswith("xxx")]
        (counted,) = (int(m.removeprefix("counted ")) for m in said if m.startswith("counted "))
        assert numbers == list(range(counted))
    assert scribes(s) == []


def test_it_outlives_a_master_that_is_killed(server: Start) -> None:
    """The workers drain, and their words are still written; then it ends, too."""
    s = start_prints(server)
    (pid,) = scribes(s)
    flag = s.dir / "flag"
    thread = threading.Thread(target=s.get, args=(f"/until?{flag}",))
    thread.start()
    wait_for(lambda: '"0 xxx' in s.log)
    s.signal(signal.SIGKILL)
    flag.touch()
    thread.join()
    wait_for(lambda: all(p.pid != pid for p in processes()))
    assert any(r["message"].startswith("counted ") for r in records(s))


def test_files_that_are_opened_again(server: Start) -> None:
    """USR1: the scribe follows."""
    s = start_prints(server, error_logfile="error.log")
    s.get("/number?1")
    record_of(s, "number 1")
    s.log_path.rename(s.dir / "error.log.1")
    s.signal(signal.SIGUSR1)
    wait_for(s.log_path.exists)
    wait_for(lambda: "reopened" in s.log)
    s.get("/number?2")
    record_of(s, "number 2")
    assert "number 2" not in (s.dir / "error.log.1").read_text()


def test_an_upgrade_prints_where_it_printed_before(server: Start, tmp_path: Path) -> None:
    """The new master gets the streams themselves, not those of the old one's scribe."""
    s = start_prints(server, pid="it.pid")
    s.signal(signal.SIGUSR2)
    wait_for(lambda: s.status is not None, what="the old master to leave")
    s.get("/number?3")
    record = record_of(s, "number 3")
    assert record["process"] == "worker 1"
    master = int((s.dir / "it.pid").read_text())
    assert any(r["pid"] == master for r in records(s))
    os.kill(master, signal.SIGTERM)
    wait_for(lambda: not s.relatives())
    assert all(isinstance(r, dict) for r in records(s))


def test_text_needs_no_scribe(server: Start) -> None:
    s = server("utters")
    assert scribes(s) == []
    s.get("/number?1")
    assert s.log_contains("^number 1$")
