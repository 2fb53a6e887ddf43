"""The pid file, and whose rights the processes have: user, group, umask. Mostly for root only."""

from __future__ import annotations

import grp
import os
import pwd
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from harness import APPS, BINARY, FLAVOUR, ROOT, Server, StartFailed, run, wait_for
from test_master import wait_for_workers, write_app
from test_upgrade import end, upgrade

Start = Callable[..., Server]

NOBODY = pwd.getpwnam("nobody")


def is_open_to_all(path: Path) -> bool:
    """Whether every user may go there."""
    return all(p.stat().st_mode & 0o001 for p in (path, *path.parents))


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
program_for_all = pytest.mark.skipif(
    not is_open_to_all(BINARY.resolve().parent), reason="not every user can read the program"
)
for_nobody = pytest.mark.skipif(
    os.geteuid() != 0
    or not is_open_to_all(Path(os.__file__).resolve().parent)
    or not is_open_to_all(APPS),
    reason="only for root, where every user can read Python and these tests",
)

REPORT = """\
import os
def application(environ, start_response):
    with open("made", "w"):
        pass
    body = repr((os.getresuid(), os.getresgid(), os.getgroups(), os.environ.get("WHO"))).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def ids(pid: int) -> dict[str, list[int]]:
    """Uid, Gid and Groups of a process."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, values = line.partition(":")
        if name in ("Uid", "Gid", "Groups"):
            found[name] = [int(value) for value in values.split()]
    return found


def family(s: Server, count: int) -> list[int]:
    """The pids of so many processes, when those that only forked others have gone."""
    wait_for(lambda: len(s.relatives()) == count, what=f"{count} processes")
    return [p.pid for p in s.relatives()]


def dropped(server: Start, **options: object) -> Server:
    """A server of REPORT in a directory that nobody may use."""
    s = server("report", start=False, **options)
    (s.dir / "report.py").write_text(REPORT)
    s.dir.chmod(0o777)
    return s.start()


# ---- user and group


@root_only
@pytest.mark.skipif(is_open_to_all(Path(sys.base_prefix)), reason="every user can read Python")
def test_python_that_the_user_cannot_read(server: Start) -> None:
    """The sentence says so, and not what Python makes of it."""
    with pytest.raises(StartFailed) as failure:
        server(user="nobody", virtualenv=None)
    assert failure.value.status == 2
    assert re.search(
        r"python\S* is not for this user \(uid \d+\): install Python", failure.value.log
    )


@for_nobody
@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_no_log_through_a_link(server: Start, kind: str, tmp_path: Path) -> None:
    """Root would open what somebody else has chosen."""
    target = tmp_path / "target"
    target.touch()
    (tmp_path / "a.log").symlink_to(target) if kind == "symbolic" else os.link(
        target, tmp_path / "a.log"
    )
    with pytest.raises(StartFailed, match="access-logfile: cannot open .*a.log") as failure:
        dropped(server, user="nobody", access_logfile=str(tmp_path / "a.log"))
    assert failure.value.status == 2 and target.read_bytes() == b""


preloads = pytest.mark.skipif(FLAVOUR != "release", reason="a sanitizer has to be loaded first")


def preloaded(directory: Path, name: str) -> Path:
    """A library of tests/tools, for LD_PRELOAD."""
    library, source = directory / f"{name}.so", ROOT / "tests" / "tools" / f"{name}.c"
    flags = ["-shared", "-fPIC", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture(scope="module")
def swap_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that replaces a file when a unix socket is bound."""
    return preloaded(tmp_path_factory.mktemp("swap"), "swap_file")


@for_nobody
@preloads
def test_only_the_log_that_was_opened_is_given(
    server: Start, swap_file: Path, tmp_path: Path
) -> None:
    """Whoever owns the directory may put another file there after root has opened it."""
    target, path = tmp_path / "target", tmp_path / "a.log"
    target.touch()
    swap = {"LD_PRELOAD": str(swap_file), "SWAP_HARD": "1"}
    swap |= {"SWAP_PATH": str(path), "SWAP_TO": str(target)}
    s = dropped(server, user="nobody", env=swap, control="unix:c.sock", access_logfile=path)
    assert os.path.samefile(path, target) and target.stat().st_uid == 0
    assert "access-logfile keeps its owner: Too many links" in s.log


@for_nobody
@preloads
@pytest.mark.parametrize("kind", ["symbolic", "hard"])
@pytest.mark.parametrize("option", ["bind", "control", "stats"])
def test_no_socket_is_given_through_a_link(
    server: Start, option: str, kind: str, swap_file: Path, tmp_path: Path
) -> None:
    """Whoever owns the directory may put one there while root makes the socket."""
    with socket.socket(socket.AF_UNIX) as root_s:
        root_s.bind(str(tmp_path / "target"))
    swap = {"LD_PRELOAD": str(swap_file), "SWAP_TO": str(tmp_path / "target")}
    swap |= {"SWAP_HARD": "1"} if kind == "hard" else {}
    options = {"binds": ["unix:a.sock"]} if option == "bind" else {option: "unix:a.sock"}
    s = dropped(server, user="nobody", env=swap, expect_deaths=True, **options)
    assert (tmp_path / "target").stat().st_uid == 0
    assert "unix:a.sock keeps its owner: somebody has put another file there" in s.log


@for_nobody
@pytest.mark.parametrize("user", ["nobody", str(NOBODY.pw_uid)])
def test_every_process_is_the_user(
    server: Start, user: str, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(partial(os.setgroups, os.getgroups()))
    os.setgroups([0, 1, 2])
    s = dropped(server, user=user, workers=2, binds=["unix:app.sock"], control="unix:control.sock")
    for pid in family(s, 5):
        assert ids(pid)["Uid"] == [NOBODY.pw_uid] * 4
        assert ids(pid)["Gid"] == [NOBODY.pw_gid] * 4
        assert ids(pid)["Groups"] == [NOBODY.pw_gid]
    assert str((NOBODY.pw_uid,) * 3) in s.get("/").text
    for name, mode in (("app.sock", 0o660), ("control.sock", 0o600)):
        info = (s.dir / name).stat()
        assert (info.st_uid, info.st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid)
        assert stat.S_IMODE(info.st_mode) == mode
    assert "served as root" not in s.log


@root_only
def test_group_alone(server: Start) -> None:
    gid = grp.getgrnam("daemon").gr_gid
    s = dropped(server, group="daemon")
    assert ids(s.workers()[0]) == {"Uid": [0] * 4, "Gid": [gid] * 4, "Groups": [gid]}


@for_nobody
def test_user_with_group(server: Start) -> None:
    gid = grp.getgrnam("daemon").gr_gid
    s = dropped(server, user="nobody", group="daemon")
    for pid in (s.pid, *s.workers()):
        assert ids(pid)["Gid"] == [gid] * 4
        assert gid in ids(pid)["Groups"]


def unknown_uid() -> int:
    """Of no user of this machine."""
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    return next(uid for uid in range(50000, 60000) if uid not in taken)


@root_only
def test_number_without_an_entry_needs_a_group(server: Start) -> None:
    """It would keep the group of root."""
    uid = unknown_uid()
    with pytest.raises(StartFailed) as failure:
        server(user=uid)
    assert failure.value.status == 2
    assert failure.value.log == (
        f"myserver: command line: --user: {uid} has no entry in the user database, so its group is "
        "unknown; set group\n"
    )


@for_nobody
def test_number_without_an_entry(server: Start) -> None:
    uid, gid = unknown_uid(), grp.getgrnam("daemon").gr_gid
    s = dropped(server, user=uid, group="daemon")
    for pid in family(s, 3):
        assert ids(pid) == {"Uid": [uid] * 4, "Gid": [gid] * 4, "Groups": [gid]}


@for_nobody
@pytest.mark.parametrize("kind", ["name", "number"])
def test_supplementary_groups(server: Start, kind: str) -> None:
    """A number gets those of the user that it is of."""
    members = [name for group in grp.getgrall() for name in group.gr_mem if name != "root"]
    if not members:
        pytest.skip("no user of this machine has one")
    entry = pwd.getpwnam(members[0])
    s = dropped(server, user=entry.pw_name if kind == "name" else entry.pw_uid)
    for pid in family(s, 3):
        expected = set(os.getgrouplist(entry.pw_name, entry.pw_gid))
        assert len(expected) > 1 and set(ids(pid)["Groups"]) == expected


@for_nobody
def test_everything_works_after_the_drop(server: Start) -> None:
    s = dropped(server, user="nobody", workers=2, pid="it.pid", expect_deaths=True)
    assert (s.dir / "it.pid").read_text() == f"{s.pid}\n"
    s.signal(signal.SIGHUP)
    assert s.log_contains(r"reloaded: ")
    os.kill(s.workers()[0], signal.SIGKILL)
    wait_for(lambda: len(s.workers()) == 2)
    new = upgrade(s)
    assert ids(new)["Uid"] == [NOBODY.pw_uid] * 4
    assert s.get("/").status == 200
    end(s, new)
    assert not (s.dir / "it.pid").exists()


@for_nobody
def test_memory_of_the_workers_can_be_seen(server: Start) -> None:
    s = server("leak", user="nobody", max_worker_memory="64m")
    (first,) = s.workers()
    s.get("/leak")
    wait_for_workers(s, 1, without=first)


@for_nobody
def test_log_is_reopened_after_the_drop(server: Start) -> None:
    s = server("hello:application", start=False, user="nobody", access_logfile="access.log")
    s.dir.chmod(0o777)
    s.start()
    s.get("/")
    wait_for(lambda: (s.dir / "access.log").read_text().endswith("\n"))
    (s.dir / "access.log").rename(s.dir / "access.1")
    s.signal(signal.SIGUSR1)
    assert s.log_contains(r"logs reopened")
    s.get("/")
    wait_for(lambda: len((s.dir / "access.log").read_text().splitlines()) == 1)


@for_nobody
def test_pid_file_where_the_user_may_not_write(server: Start) -> None:
    directory = Path(tempfile.mkdtemp(prefix="myserver-run-"))
    directory.chmod(0o755)
    s = server("hello:application", user="nobody", pid=directory / "it.pid")
    assert (directory / "it.pid").read_text() == f"{s.pid}\n"
    assert s.stop() == 0
    assert (directory / "it.pid").read_text() == ""
    s = server("hello:application", user="nobody", pid=directory / "it.pid")
    assert (directory / "it.pid").read_text() == f"{s.pid}\n"


@root_only
def test_root_is_warned(server: Start) -> None:
    s = server()
    assert s.log.count("requests are served as root: set user to another") == 1


@pytest.mark.parametrize(
    "option, sentence",
    [
        (
            "--user=no-such-user",
            '--user: there is no user "no-such-user"; write a name or a number',
        ),
        ("--group=no-such-group", '--group: there is no group "no-such-group"; write a name'),
    ],
)
def test_unknown_names(option: str, sentence: str) -> None:
    for check in ("--check-config", "--log-level=info"):
        done = run(option, check, "hello")
        assert done.returncode == 2
        assert done.stderr.startswith(f"myserver: command line: {sentence}")


@root_only
@program_for_all
def test_check_config_has_the_rights_of_the_server(tmp_path: Path) -> None:
    """Root can read what the user of the server cannot."""
    (tmp_path / "private.py").write_text("application = lambda environ, start_response: []\n")
    tmp_path.chmod(0o700)
    assert run("--check-config", "private", cwd=tmp_path).returncode == 0
    done = run("--check-config", f"--user={NOBODY.pw_uid}", "private", cwd=tmp_path)
    if "is not for this user" in done.stderr:
        pytest.skip("Python itself is not for everybody here")
    assert done.returncode == 3
    assert "there is no private.py" in done.stderr


@root_only
@program_for_all
def test_only_root_can_become_another() -> None:
    command = [str(BINARY), "--user=root", "--check-config", "hello"]
    done = subprocess.run(
        command,
        user=NOBODY.pw_uid,
        group=NOBODY.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        cwd="/",
    )
    if "cannot open shared object file" in done.stderr:
        pytest.skip("this Python's library is not for everybody")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "myserver: command line: --user: only root can become another; start as root"
    )


# ---- umask, chdir, env, pythonpath


@pytest.mark.parametrize("umask, mode", [("0077", 0o600), ("0", 0o666), ("027", 0o640)])
def test_umask(server: Start, umask: str, mode: int) -> None:
    s = dropped(server, umask=umask, binds=["unix:app.sock"])
    s.get("/")
    assert stat.S_IMODE((s.dir / "made").stat().st_mode) == mode
    assert stat.S_IMODE((s.dir / "app.sock").stat().st_mode) == 0o660


def test_umask_is_inherited(server: Start) -> None:
    before = os.umask(0o037)
    try:
        s = dropped(server)
        s.get("/")
        assert stat.S_IMODE((s.dir / "made").stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_chdir_env_and_pythonpath(server: Start, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    s = server("report", start=False, chdir=tmp_path, env=None, pythonpath=["code"])
    (tmp_path / "code" / "report.py").write_text(REPORT)
    s.command.insert(1, "--env=WHO=somebody")
    s.start()
    assert "somebody" in s.get("/").text
    assert (tmp_path / "made").exists()


# ---- pid


def test_pid_file(server: Start) -> None:
    s = server("versioned", start=False, pid="it.pid")
    write_app(
        s,
        "one",
        "import os; held = os.path.exists('it.pid') and open('it.pid').read()\n"
        "print('pid file:', repr(held))",
    )
    s.start()
    assert "pid file: ''" in s.log  # not yet
    wait_for(lambda: (s.dir / "it.pid").read_text() == f"{s.pid}\n")
    assert stat.S_IMODE((s.dir / "it.pid").stat().st_mode) & 0o133 == 0
    assert s.stop() == 0
    assert not (s.dir / "it.pid").exists()


def test_pid_file_after_a_failed_start(server: Start) -> None:
    s = server("versioned", start=False, pid="it.pid")
    write_app(s, "one", "import os; print('held:', os.path.exists('it.pid'), flush=True); 1 / 0")
    with pytest.raises(StartFailed, match="held: True"):
        s.start()
    assert not (s.dir / "it.pid").exists()


def test_stale_pid_file(server: Start) -> None:
    s = server(pid="it.pid", start=False)
    (s.dir / "it.pid").write_text("1\n")  # alive, but no server of ours
    s.start()
    wait_for(lambda: (s.dir / "it.pid").read_text() == f"{s.pid}\n")
    s.signal(signal.SIGKILL)
    s.wait()
    wait_for(lambda: not s.relatives())
    before = (s.dir / "it.pid").read_text()
    s.start()
    wait_for(lambda: (s.dir / "it.pid").read_text() == f"{s.pid}\n")
    assert before != f"{s.pid}\n"


def test_pid_file_of_a_running_server(server: Start) -> None:
    s = server(pid="it.pid")
    wait_for(lambda: (s.dir / "it.pid").read_text())
    other = server(pid=s.dir / "it.pid", start=False, binds=["127.0.0.1:0"])
    with pytest.raises(StartFailed, match="pid: .*it.pid is held by another server") as failure:
        other.start()
    assert failure.value.status == 2
    assert (s.dir / "it.pid").read_text() == f"{s.pid}\n"


def test_pid_file_that_was_replaced_stays(server: Start) -> None:
    s = server(pid="it.pid")
    wait_for(lambda: (s.dir / "it.pid").read_text())
    (s.dir / "it.pid").unlink()
    (s.dir / "it.pid").write_text("another's")
    assert s.stop() == 0
    assert (s.dir / "it.pid").read_text() == "another's"


@preloads
def test_pid_file_that_cannot_be_locked(server: Start, tmp_path: Path) -> None:
    """As on NFS: it is no other server that holds it."""
    library = preloaded(tmp_path, "no_flock")
    with pytest.raises(
        StartFailed,
        match="pid: cannot lock it.pid: No locks available; put it on a "
        "local file system such as /run",
    ) as failure:
        server(pid="it.pid", env={"LD_PRELOAD": str(library)})
    assert failure.value.status == 2


@pytest.mark.parametrize("kind", ["hard link", "pipe"])
def test_pid_file_that_is_another_file(server: Start, kind: str, tmp_path: Path) -> None:
    """It would be emptied, and belong to another user then."""
    target, path = tmp_path / "target", tmp_path / "it.pid"
    target.write_text("precious")
    os.mkfifo(path) if kind == "pipe" else os.link(target, path)
    with pytest.raises(StartFailed) as failure:
        server(pid=path)
    assert failure.value.status == 2 and target.read_text() == "precious"
    assert f"pid: {path} is no regular file, or has another name (a hard link); remove it" in (
        failure.value.log
    )


def test_pid_file_without_a_directory(server: Start) -> None:
    with pytest.raises(
        StartFailed,
        match="pid: cannot open none/it.pid: its directory does not "
        "exist; make it, or let the service manager do that .Runtime",
    ) as failure:
        server(pid="none/it.pid")
    assert failure.value.status == 2
