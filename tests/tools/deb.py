"""Builds the Debian packages of a release in a folder, and lives through their life under its systemd.

    python3 tests/tools/deb.py SUITE

Like debian.py, of which it uses the folder build/debian/SUITE to build in. A second folder,
SUITE-installed, has nothing but the least of a system. It is booted with the packages over it, and
thrown away after: installed, served with each Python, reloaded, logs rotated, upgraded and restarted
under load without a lost request, removed, purged. Needs root; the network is used by apt only.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from debian import ROOT, Folder, run

APPLICATION = """\
import sys, time

def application(environ, start_response):
    time.sleep(0.02)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%s python3.%d" % (TEXT, sys.version_info[1])]

TEXT = b"one"
"""
# What the folder has to have before it can be a machine: nothing that a dependency should have brought.
SYSTEM = "systemd-sysv"
# Where purged packages and running systems leave things of their own: apt, dpkg, systemd, Python's caches;
# /etc/hosts is netbase's, which Python needs on forky.
NOT_OURS = re.compile(
    r"/(proc|sys|dev|run|tmp|root)(/|$)|/var/(cache|tmp|log/(apt|journal|alternatives|dpkg|private))"
    r"|/var/lib/(apt|dpkg|systemd|private)|/var/log/[a-z]*\.log|/etc/(ld\.so\.cache|machine-id|mailcap|hosts$)"
)
# As `init` of a namespace of its own. $1 is the root, $2 a cgroup.
BOOT = """\
echo $$ >"$2/cgroup.procs"
exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child sh -ec '
cd "$0"
mount --make-rprivate /
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do
    touch dev/$name
    mount --bind /dev/$name dev/$name
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
pivot_root . mnt
umount -l mnt
exec env -i container=other /lib/systemd/systemd --show-status=no --log-target=journal
' "$1"
"""


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Until it holds; the end of the program if it does not."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)


def check(holds: object, what: str) -> None:
    """Says what has been found, or ends the program."""
    if not holds:
        sys.exit(f"FAILED: {what}")
    print(f"    {what}", flush=True)


class Machine:
    """A booted folder. What happens in it is lost with it."""

    def __init__(self, suite: str, packages: Path) -> None:
        self.folder = Folder(suite)
        self.folder.path = self.folder.path.with_name(f"{suite}-installed")
        self.folder.make()
        self.packages = packages
        self.pid = 0

    def prepare(self) -> None:
        """What a machine has that the least of Debian has not; once."""
        with ExitStack() as stack:
            self.folder.mount(stack)
            self.folder.configure_network()
            self.folder.shell(
                "apt-get update -q\n"
                f"DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends {SYSTEM}\n"
                "systemctl mask --quiet systemd-modules-load.service systemd-sysctl.service\n"
            )

    @contextmanager
    def booted(self) -> Iterator[None]:
        """Its systemd runs, for as long as this lasts, over a layer that is thrown away."""
        with ExitStack() as stack:
            layers = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "build")))
            for name in ("upper", "work", "root"):
                (layers / name).mkdir()
            options = f"lowerdir={self.folder.path},upperdir={layers}/upper,workdir={layers}/work"
            run("mount", "-t", "overlay", "-o", options, "overlay", layers / "root")
            stack.callback(run, "umount", layers / "root")
            shutil.copytree(self.packages, layers / "root/root/packages")
            group = cgroups() / f"myserver-{os.getpid()}"
            group.mkdir()
            stack.callback(remove_groups, group)
            command = ["sh", "-ec", BOOT, "sh", str(layers / "root"), str(group)]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            stack.callback(self.halt, process)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            wait_for(lambda: children.read_text() or process.poll() is not None, "a child", 20)
            self.pid = int(children.read_text())
            wait_for(
                lambda: self.ask("systemctl is-system-running") in ("running", "degraded"),
                "the boot",
            )
            yield

    def halt(self, process: subprocess.Popen[bytes]) -> None:
        """As if the power were cut: with init, all of its processes go."""
        process.kill()
        process.wait()
        wait_for(lambda: not self.pid or not Path(f"/proc/{self.pid}").exists(), "the halt")

    def shell(self, script: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell script inside, as root."""
        enter = [
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--cgroup",
            "--root",
            "--wd",
        ]
        env = [
            "env",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL=C.UTF-8",
            "HOME=/root",
            "DEBIAN_FRONTEND=noninteractive",
        ]
        done = subprocess.run(
            [*enter, *env, "sh", "-ec", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            sys.exit(f"FAILED with {done.returncode}:\n{script}\n{done.stdout}{done.stderr}")
        return done

    def ask(self, script: str) -> str:
        """What it prints, whatever its status is."""
        return self.shell(script, check=False).stdout.strip()

    def write(self, path: str, text: str) -> None:
        """A file of it."""
        file = Path(f"/proc/{self.pid}/root{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def files(self) -> set[str]:
        """All that packages could have left."""
        return {path for path in self.ask("find / -xdev").splitlines() if not NOT_OURS.match(path)}

    def main_pid(self, name: str) -> str:
        """The master of an instance."""
        return self.ask(f"systemctl show --property=MainPID --value myserver@{name}")

    def wait_for_another_master(self, name: str, pid: str) -> None:
        """Until systemd knows of one."""
        wait_for(lambda: self.main_pid(name) not in ("0", pid), f"a new master of {name}")

    def get(self, path: str) -> str:
        """The answer over a unix socket of it."""
        client = http.client.HTTPConnection("localhost", timeout=60)
        client.sock = socket.socket(socket.AF_UNIX)
        client.sock.settimeout(60)
        client.sock.connect(f"/proc/{self.pid}/root{path}")
        client.request("GET", "/", headers={"Connection": "close"})
        response = client.getresponse()
        text = response.read().decode()
        client.close()
        if response.status != 200:
            raise OSError(f"{response.status} {text}")
        return text


def cgroups() -> Path:
    """Where this machine has cgroups of version 2."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            return Path(line.split()[1])
    sys.exit("no cgroup2 is mounted here: mount -t cgroup2 cgroup2 /sys/fs/cgroup")


def remove_groups(group: Path) -> None:
    """With those below it."""
    for directory, _, _ in os.walk(group, topdown=False):
        os.rmdir(directory)


class Load:
    """Requests without a break, each on a connection of its own."""

    def __init__(self, machine: Machine, path: str, clients: int = 8) -> None:
        self.machine, self.path = machine, path
        self.answered = 0
        self.lost: list[str] = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.go_on) for _ in range(clients)]

    def go_on(self) -> None:
        while not self.stopped.is_set():
            try:
                self.machine.get(self.path)
                self.answered += 1
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                time.sleep(0.1)

    @contextmanager
    def running(self, what: str) -> Iterator[None]:
        """Under load; nothing may be lost."""
        for thread in self.threads:
            thread.start()
        try:
            wait_for(lambda: self.answered > 50 or self.lost, f"answers at {self.path}")
            yield
            begin = self.answered
            wait_for(lambda: self.answered > begin + 50 or self.lost, f"answers at {self.path}")
        finally:
            self.stopped.set()
            for thread in self.threads:
                thread.join()
        check(
            not self.lost,
            f"{what}: {self.path}: {self.answered} answered, lost: {self.lost or 'none'}",
        )


def build(suite: str) -> Path:
    """The packages of this commit, and the same with a higher version; lintian is content with them."""
    folder = Folder(suite)
    folder.make()
    with ExitStack() as stack:
        folder.mount(stack)
        folder.prepare()
        folder.shell(
            f"make -C {folder.source} deb\n"
            f"cd {folder.source}/build/deb\n"
            "mkdir first second\n"
            "dpkg-deb -R myserver_*_*.deb tree\n"
            "sed -i 's/^Version: .*/&+next/' tree/DEBIAN/control\n"
            "dpkg-deb --root-owner-group -b tree second\n"
            "mv myserver_*_*.deb first\n"
        )
    kept = ROOT / "build" / "debian" / f"{suite}-packages"
    shutil.rmtree(kept, ignore_errors=True)
    made = folder.path / folder.source[1:] / "build/deb"
    for name in ("first", "second"):
        shutil.copytree(made / name, kept / name)
    return kept


def instance(machine: Machine, name: str, *lines: str, enable: str) -> None:
    """An application, its settings, and the units that shall run."""
    machine.write(f"/srv/{name}/app.py", APPLICATION)
    text = "\n".join(["[myserver]", "app = app", f"chdir = /srv/{name}", "workers = 2", *lines, ""])
    machine.write(f"/etc/myserver/{name}.ini", text)
    machine.shell(f"systemctl enable --quiet --now {enable}")


def install(machine: Machine) -> None:
    """Nothing runs, and what an administrator looks for is there."""
    machine.shell("apt-get install -q -y --no-install-recommends /root/packages/first/*.deb")
    check(
        not machine.ask("systemctl list-units --plain --no-legend 'myserver@*'"),
        "installed: nothing runs yet",
    )
    done = machine.shell(
        "systemd-analyze verify --man=no myserver@shop.service myserver@shop.socket 2>&1",
        check=False,
    )
    check(
        done.returncode == 0 and not done.stdout,
        f"systemd-analyze verify has nothing to say {done.stdout}",
    )
    machine.shell(
        "test -d /etc/myserver && zcat -f /usr/share/man/man1/myserver.1* | grep -q SIGNALS"
    )
    machine.shell("logrotate_conf=/etc/logrotate.d/myserver; test -f $logrotate_conf")
    machine.shell(
        "cd /tmp && myserver --print-config -c /usr/share/doc/myserver/examples/myserver.ini x:y"
    )
    check("3." in machine.ask("myserver --version"), machine.ask("myserver --version"))


def serve(machine: Machine) -> None:
    """One instance with a socket unit, one that binds itself, one with log files that never runs."""
    instance(
        machine,
        "shop",
        "access-logfile = /var/log/myserver/shop/access.log",
        enable="myserver@shop.socket myserver@shop.service",
    )
    instance(
        machine,
        "plain",
        "bind = unix:/run/myserver/plain/http.sock",
        enable="myserver@plain.service",
    )
    instance(
        machine, "idle", "bind = unix:/run/myserver/idle/http.sock", enable="myserver@idle.service"
    )
    machine.shell("systemctl disable --quiet --now myserver@idle")
    for path in ("/run/myserver/shop.sock", "/run/myserver/plain/http.sock"):
        check(machine.get(path).startswith("one python3."), f"{path} answers: {machine.get(path)}")
    users = set(
        machine.ask(
            "for pid in $(cat /sys/fs/cgroup/system.slice/system-myserver.slice/*/cgroup.procs); do stat -c %U /proc/$pid; done"
        ).split()
    )
    check(users == {"www-data"}, f"all processes are those of {users}")


def serve_each_python(machine: Machine) -> None:
    """A virtualenv of each Python that there is an engine for."""
    for engine in machine.ask("ls /usr/lib/myserver/ | grep engine").split():
        python = "python" + engine[len("engine-") : -len(".so")]
        name = python.replace(".", "")
        machine.shell(
            f"apt-get install -q -y --no-install-recommends {python} lib{python}\napt-mark auto {python} lib{python}\n{python} -m venv --without-pip /srv/{name}/.venv"
        )
        instance(
            machine,
            name,
            f"virtualenv = /srv/{name}/.venv",
            f"bind = unix:/run/myserver/{name}/http.sock",
            enable=f"myserver@{name}",
        )
        check(
            machine.get(f"/run/myserver/{name}/http.sock") == f"one {python}",
            f"an application of {python} is served",
        )
        machine.shell(
            f"systemctl disable --quiet --now myserver@{name}; rm -r /srv/{name} /etc/myserver/{name}.ini"
        )


def deploy(machine: Machine) -> None:
    """New code by a reload, and the logs by logrotate."""
    path = "/run/myserver/shop.sock"
    machine.write("/srv/shop/app.py", APPLICATION.replace("one", "two"))
    with Load(machine, path).running("systemctl reload"):
        machine.shell("systemctl reload myserver@shop")
        wait_for(lambda: machine.get(path).startswith("two"), "the new code")
    machine.shell("apt-get install -q -y --no-install-recommends logrotate")
    machine.write("/etc/myserver/broken.ini", "[myserver]\nworker = 1\n")
    started = machine.shell("systemctl start myserver@broken", check=False)
    said = machine.ask("journalctl --output=cat --unit=myserver@broken | grep worker")
    check(started.returncode != 0 and said, f"an instance with a mistake does not start: {said}")
    with Load(machine, path).running("logrotate"):
        machine.shell("logrotate --force /etc/logrotate.d/myserver")
        wait_for(
            lambda: machine.ask("cat /var/log/myserver/shop/access.log"), "lines in the new log"
        )
    old = "/var/log/myserver/shop/access.log.1"
    check(machine.ask(f"stat -c '%U %a' {old}").startswith("www-data 640"), "rotated")
    machine.shell("systemctl stop 'myserver@*.service'")
    machine.shell("logrotate --force /etc/logrotate.d/myserver")
    check(machine.ask(f"test -e {old.removesuffix('.1')}.2.gz && echo yes"), "rotated at rest, too")
    machine.shell("systemctl start myserver@shop myserver@plain")


def upgrade(machine: Machine) -> None:
    """Each that runs gets the new program, none that does not."""
    names = {"shop": "/run/myserver/shop.sock", "plain": "/run/myserver/plain/http.sock"}
    before = {name: machine.main_pid(name) for name in names}
    with (
        Load(machine, names["shop"]).running("upgrade"),
        Load(machine, names["plain"]).running("upgrade"),
    ):
        print(machine.shell("apt-get install -q -y /root/packages/second/*.deb").stdout)
        for name, pid in before.items():
            machine.wait_for_another_master(name, pid)
            program = machine.ask(f"readlink /proc/{machine.main_pid(name)}/exe")
            check(program == "/usr/bin/myserver", f"{name}: the new master is of {program}")
    check(machine.main_pid("idle") == "0", "what did not run does not run")
    check("+next" in machine.ask("dpkg-query -W myserver"), "upgraded")
    with Load(machine, names["shop"]).running("restart"):
        machine.shell("systemctl restart myserver@shop")
    # Code that does not load.
    pid = machine.main_pid("plain")
    machine.write("/srv/plain/app.py", "1 / 0\n")
    with Load(machine, names["plain"]).running("an upgrade whose application does not load"):
        machine.shell("dpkg -i /root/packages/second/*.deb")
        wait_for(
            lambda: "upgrade failed" in machine.ask("journalctl -u myserver@plain"), "the sentence"
        )
    check(machine.main_pid("plain") == pid, "the old master goes on")


def leave(machine: Machine, before: set[str]) -> None:
    """Removed: it stands still, settings and logs stay. Purged: only what is the administrator's stays."""
    machine.shell("apt-get remove -q -y myserver")
    check(
        not machine.ask("pgrep myserver; systemctl list-units --plain --no-legend 'myserver@*'"),
        "removed: nothing runs",
    )
    machine.shell(
        "test -e /var/log/myserver/shop/access.log && test -e /etc/logrotate.d/myserver && test ! -e /run/myserver/shop"
    )
    machine.shell("apt-get purge -q -y myserver && apt-get purge -q -y --auto-remove logrotate")
    left = {path for path in machine.files() - before if not path.startswith("/srv/")}
    ours = {
        "/etc/myserver",
        *(f"/etc/myserver/{name}.ini" for name in ("shop", "plain", "idle", "broken")),
    }
    check(left == ours, f"purged: what is left are {sorted(left)}")


def main() -> int:
    """0: all of it went well."""
    if len(sys.argv) != 2 or os.geteuid() != 0:
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # undoes the mounts
    suite = sys.argv[1]
    machine = Machine(suite, build(suite))
    machine.prepare()
    with machine.booted():
        print(f"{suite}: {machine.ask('systemctl --version | head -n 1')}", flush=True)
        before = machine.files()
        install(machine)
        serve(machine)
        serve_each_python(machine)
        deploy(machine)
        upgrade(machine)
        leave(machine, before)
    print(f"{suite}: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
