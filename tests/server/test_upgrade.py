"""USR2: another master takes the place of this one, with the same sockets."""

from __future__ import annotations

import os
import re
import resource
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from control_client import OPTIONS, ask, connect, uwsgi_stats
from harness import BINARY, FLAVOUR, Server, StartFailed, processes, read_all, wait_for
from test_master import begin_slow, load, title_of, versioned, wait_for_workers, write_app
from wire import let

Start = Callable[..., Server]
WAITS = "import told; told.wait_until_let('load')"


def master_pids(s: Server) -> list[int]:
    """All masters of the server's process group."""
    return sorted(p.pid for p in s.relatives() if p.name == "myserver:master")


def control_pids(s: Server) -> list[int]:
    """All control processes of the server's process group."""
    return sorted(p.pid for p in s.relatives() if p.name.startswith("myserver:contro"))


def upgrade(s: Server, master: int | None = None) -> int:
    """USR2, and wait until the old master is gone; the pid of the new one."""
    old = master or s.pid
    os.kill(old, signal.SIGUSR2)
    s.wait() if old == s.pid else wait_for(lambda: old not in master_pids(s), 20)
    (new,) = master_pids(s)
    return new


def end(s: Server, master: int) -> None:
    """TERM for a master that is not our child, and wait until all are gone."""
    os.kill(master, signal.SIGTERM)
    wait_for(lambda: not s.relatives(), 20, "the end")


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:app.sock"])
def test_upgrade_under_load(server: Start, bind: str) -> None:
    s = versioned(server, "one", workers=2, binds=[bind], pid="it.pid")
    assert (s.dir / "it.pid").read_text() == f"{s.pid}\n"
    first = s.pid
    with load(s) as requests:
        wait_for(lambda: len(requests.bodies) > 20)
        write_app(s, "second")
        new = upgrade(s)
        assert s.status == 0
        asked = len(requests.bodies)
        wait_for(lambda: len(requests.bodies) > asked + 20)
    assert requests.errors == []
    assert set(requests.bodies) == {"one", "second"}
    assert new != first
    assert s.log_contains(rf"master \({first}\): upgraded: the new master \(pid {new}\) serves")
    assert (s.dir / "it.pid").read_text() == f"{new}\n"
    wait_for(lambda: len(s.workers()) == 2 and len(s.molds()) == 1)
    newer = upgrade(s, new)
    assert s.get("/").text == "second"
    end(s, newer)
    assert not (s.dir / "it.pid").exists()
    assert not (s.dir / "app.sock").exists()


def test_slow_request_survives(server: Start) -> None:
    s = server("slow", workers=1)
    client = begin_slow(s, "/1.5")
    new = upgrade(s)
    client.join()
    assert client.error is None
    end(s, new)


def test_term_to_the_old_one_after_the_upgrade(server: Start) -> None:
    """As other servers want it: it is leaving already, and goes on answering what it has."""
    s = server("slow", workers=1)
    client = begin_slow(s, "/2.5")
    s.signal(signal.SIGUSR2)
    found = s.log_contains(r"upgraded: the new master \(pid (\d+)\) serves")
    assert found
    s.signal(signal.SIGTERM)
    client.join()
    assert client.error is None
    assert s.wait() == 0
    end(s, int(found[1]))


def test_health_during_an_upgrade(server: Start) -> None:
    """Somebody serves at all times, and that is what is said."""
    s = versioned(server, "one", workers=1, **OPTIONS)
    write_app(s, "two", WAITS)
    s.signal(signal.SIGUSR2)
    said = []
    while s.status is None:
        said.append(ask(s, "/readyz").status)
        if len(said) == 10:
            let(s, "load")
    (new,) = master_pids(s)
    said.append(ask(s, "/readyz").status)
    assert set(said) == {200} and len(said) > 10
    end(s, new)


def test_whoever_asks_the_old_one(server: Start) -> None:
    """Its control process answers those whom it has taken, and is gone then."""
    s = versioned(server, "one", workers=1, **OPTIONS)
    (old,) = control_pids(s)
    with connect(s) as late:
        assert ask(s, "/readyz").status == 200  # so the one before is taken as well
        new = upgrade(s)
        wait_for(lambda: set(control_pids(s)) > {old})
        late.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert read_all(late).startswith(b"HTTP/1.1 200 ")
    wait_for(lambda: old not in control_pids(s))
    assert ask(s, "/readyz").status == 200
    end(s, new)


def test_new_settings(server: Start, tmp_path: Path) -> None:
    """What a reload cannot change: threads, workers, another address."""
    s = server("slow", workers=1, start=False)
    (s.dir / "it.ini").write_text(
        "[myserver]\nworkers = 1\nbind = 127.0.0.1:0\nbind = unix:a\napp = slow\n"
    )
    s.command = [a for a in s.command if not a.startswith(("--workers", "--bind", "--threads"))]
    s.command = [*s.command[:-1], "-c", "it.ini"]
    s.start()
    (s.dir / "it.ini").write_text(
        "[myserver]\nworkers = 3\nthreads = 2\nbind = 127.0.0.1:0\nbind = unix:b\napp = slow\n"
    )
    new = upgrade(s)
    assert s.get("/").status == 200  # the old address
    wait_for_workers(s, 3)
    assert not (s.dir / "a").exists() and (s.dir / "b").exists()
    end(s, new)
    assert not (s.dir / "b").exists()


def test_upgrade_that_fails_changes_nothing(server: Start) -> None:
    s = versioned(server, "one", binds=["unix:app.sock"], pid="it.pid", expect_deaths=True)
    workers = s.workers()
    write_app(s, "two", "1 / 0")
    s.signal(signal.SIGUSR2)
    assert s.log_contains(
        r"upgrade failed: the new master \(pid \d+\) has ended: exit status 3", 10
    )
    assert "ZeroDivisionError" in s.log
    assert s.workers() == workers and master_pids(s) == [s.pid]
    assert s.get("/").text == "one"
    assert (s.dir / "it.pid").read_text() == f"{s.pid}\n"
    write_app(s, "second")
    new = upgrade(s)
    assert s.get("/").text == "second"
    end(s, new)


def test_program_that_is_gone(server: Start, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f'#!/bin/bash\nexec -a "{program}" {BINARY} "$@"\n')
    program.chmod(0o755)
    s = server("slow", binary=program)
    program.write_text("#!/bin/sh\nexit 9\n")
    s.signal(signal.SIGUSR2)
    assert s.log_contains(r"upgrade failed: .* exit status 9; this one goes on")
    assert s.get("/").status == 200


def test_no_descriptor_for_an_upgrade(server: Start) -> None:
    s = server("slow")
    limits = resource.prlimit(s.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (3, limits[1]))  # those that it has stay open
    s.signal(signal.SIGUSR2)
    assert s.log_contains(
        r"no upgrade: cannot make a pipe: Too many open files; raise the limit of open files \(ulimit -n"
    )
    resource.prlimit(s.pid, resource.RLIMIT_NOFILE, limits)
    assert s.get("/").status == 200


def test_back_out(server: Start) -> None:
    s = versioned(server, "one")
    write_app(s, "two", "time.sleep(60)")
    s.signal(signal.SIGUSR2)
    found = s.log_contains(r"upgrading: the new master is pid (\d+)")
    assert found
    s.signal(signal.SIGUSR2)
    assert s.log_contains(r"no upgrade now: one is under way")
    wait_for(lambda: len(s.molds()) == 2)
    os.kill(int(found[1]), signal.SIGTERM)
    assert s.log_contains(r"\[info\].* upgrade called off: .* has ended; this one goes on")
    assert s.get("/").text == "one"
    write_app(s, "three")
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reloaded: ")
    assert s.get("/").text == "three"


def test_back_out_when_some_of_its_workers_serve(server: Start) -> None:
    """Who was connected to the new ones is answered, and nobody waits for the old ones."""
    s = versioned(server, "one", workers=2)
    hangs = "import myserver\n@myserver.postfork\ndef hang():\n"
    hangs += "    if myserver.worker_id() == 2:\n        time.sleep(60)\n"
    write_app(s, "second", hangs)
    with load(s) as requests:
        s.signal(signal.SIGUSR2)
        found = s.log_contains(r"upgrading: the new master is pid (\d+)")
        assert found
        wait_for(lambda: "second" in requests.bodies)
        os.kill(int(found[1]), signal.SIGTERM)
        wait_for(lambda: master_pids(s) == [s.pid])
        asked = len(requests.bodies)
        wait_for(lambda: len(requests.bodies) > asked + 20)
    assert requests.errors == []
    assert set(requests.bodies[asked + 10 :]) == {"one"}
    assert s.log_contains(r"\[info\].* upgrade called off: .* has ended; this one goes on")


def test_not_as_the_first_process_of_a_container(server: Start, tmp_path: Path) -> None:
    if os.geteuid() != 0 or FLAVOUR != "release":
        pytest.skip("needs root for another name space of processes")
    contained = tmp_path / "contained"
    contained.write_text(f'#!/bin/sh\nexec unshare --pid --fork --kill-child {BINARY} "$@"\n')
    contained.chmod(0o755)
    s = server("slow", binary=contained, start=False)
    try:
        s.start()
    except StartFailed as error:
        if "unshare" in str(error.log):
            pytest.skip("no name spaces here")
        raise
    (master,) = master_pids(s)
    os.kill(master, signal.SIGUSR2)
    assert s.log_contains(r"no upgrade now: this is process 1, and its container would end with it")
    assert s.get("/").status == 200
    end(s, master)


def test_stop_during_an_upgrade_stops_both(server: Start) -> None:
    s = versioned(server, "one", binds=["unix:app.sock"])
    write_app(s, "two", "time.sleep(60)")
    s.signal(signal.SIGUSR2)
    wait_for(lambda: len(s.molds()) == 2)
    assert s.stop() == 0
    wait_for(lambda: not s.relatives())
    assert not (s.dir / "app.sock").exists()
    assert s.log_contains(r"\[info\].* upgrade called off: the new master \(pid \d+\) has ended$")


def test_new_master_outlives_a_killed_old_one(server: Start) -> None:
    s = versioned(server, "one", workers=2, expect_deaths=True)
    old = s.workers()
    write_app(s, "second", WAITS)
    s.signal(signal.SIGUSR2)
    assert s.log_contains(r"upgrading: ")
    wait_for(lambda: len(s.molds()) == 2)
    s.signal(signal.SIGKILL)
    s.wait()
    let(s, "load")
    (new,) = wait_for(lambda: master_pids(s))
    assert s.log_contains(r"upgraded: taking the place")
    wait_for(lambda: not set(old) & set(s.workers()), what="the old workers to leave")
    assert s.get("/").text == "second"
    end(s, new)


def announced(server: Start, end_of_it: int) -> Server:
    """An upgrade to a new master that has announced itself, and ended, before the old one looks."""
    s = versioned(server, "one", expect_deaths=True, binds=["unix:app.sock"], pid="it.pid")
    write_app(s, "two", WAITS)
    s.signal(signal.SIGUSR2)
    found = s.log_contains(r"upgrading: the new master is pid (\d+)")
    assert found
    s.signal(signal.SIGSTOP)
    wait_for(lambda: title_of(s, s.pid).state == "T")
    let(s, "load")
    assert s.log_contains(r"upgraded: taking the place")
    new = int(found[1])
    os.kill(new, end_of_it)
    wait_for(lambda: any(p.pid == new and p.state == "Z" for p in processes()))
    s.signal(signal.SIGCONT)
    return s


def test_new_master_that_dies_after_its_announcement(server: Start) -> None:
    """The old one has not heard it yet, and must not leave for a dead one."""
    s = announced(server, signal.SIGKILL)
    assert s.log_contains(r"upgrade failed: .* signal 9.*; this one goes on")
    wait_for(lambda: len(s.workers()) == 1 and not s.ending_workers())
    assert s.get("/").text == "one"
    assert master_pids(s) == [s.pid]
    wait_for(lambda: (s.dir / "it.pid").read_text() == f"{s.pid}\n")


def test_new_master_that_is_stopped_after_its_announcement(server: Start) -> None:
    """It had taken over, and has removed what it had taken: the old one has nothing to go on with."""
    s = announced(server, signal.SIGTERM)
    assert s.wait() == 0
    assert s.log_contains(r"the new master \(pid \d+\) has ended: exit status 0")
    assert not (s.dir / "it.pid").exists() and not (s.dir / "app.sock").exists()


def test_settings_of_sockets_and_the_pid_file(server: Start) -> None:
    """What only a new master can change: it does."""
    s = server("slow", start=False, **OPTIONS)
    ini = "[myserver]\napp = slow\nbind = 127.0.0.1:0\nbind = unix:app.sock\n"
    (s.dir / "it.ini").write_text(ini + "backlog = 64\nsocket-mode = 0600\npid = old.pid\n")
    s.command = [*(a for a in s.command[:-1] if not a.startswith("--bind")), "-c", "it.ini"]
    s.start()

    def backlogs() -> list[str]:
        return re.findall(r"^myserver_listen_queue_max\S* (\d+)$", ask(s, "/metrics").text, re.M)

    assert set(backlogs()) == {"64"} and (s.dir / "old.pid").read_text() == f"{s.pid}\n"
    (s.dir / "it.ini").write_text(ini + "backlog = 96\nsocket-mode = 0660\npid = new.pid\n")
    new = upgrade(s)
    wait_for(lambda: len(control_pids(s)) == 1, what="the old one's control process to leave")
    assert set(backlogs()) == {"96"}
    assert stat.S_IMODE((s.dir / "app.sock").stat().st_mode) == 0o660
    assert (s.dir / "new.pid").read_text() == f"{new}\n"
    assert not (s.dir / "old.pid").exists()
    end(s, new)
    assert not (s.dir / "new.pid").exists()


def test_control_and_stats_sockets_go_along(server: Start) -> None:
    s = server("slow", control="unix:control.sock", stats="unix:stats.sock")
    new = upgrade(s)
    wait_for(lambda: len(control_pids(s)) == 1)
    assert ask(s, "/livez").status == 200
    assert uwsgi_stats(s)["pid"] == new
    assert not re.search(r"\[error\]", s.log)
    end(s, new)
    assert not (s.dir / "control.sock").exists()
