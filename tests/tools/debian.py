"""Runs the whole suite on another release of Debian, as on a fresh machine: in a folder made by debootstrap.

    python3 tests/tools/debian.py SUITE [-k NAME] [PYTHON ...]

The folder is build/debian/SUITE; it stays, and the next run begins where it is. The mirror is the one of
this machine's apt, and what comes from it is verified against debian-archive-keyring. Needs root, since it
changes the root directory. With PYTHON only those; else each CPython of the release that can be embedded.
With NAME only the tests of that name, as T=NAME of the Makefile.
A release whose Pythons are all too old builds what needs none of them and runs the unit tests of that.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SCRIPTS = Path("/usr/share/debootstrap/scripts")
# How this machine reaches the network: resolver, certificates, settings of pip.
NETWORK = ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
TOOLS = ("build-essential", "ca-certificates", "git", "sudo")


def run(*command: str | Path) -> str:
    """Run a command of this machine; what it says."""
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def unmount(path: Path) -> None:
    """What is mounted there and below; as soon as nobody uses it."""
    subprocess.run(["umount", "--recursive", "--lazy", path], check=False)


def mirror() -> str:
    """Where apt of this machine gets Debian from."""
    text = run("apt-get", "indextargets", "--format", "$(SITE) $(ORIGIN)", "Created-By: Packages")
    sites = [
        site
        for site, origin in (line.split(" ", 1) for line in text.splitlines())
        if origin == "Debian"
    ]
    if not sites:
        sys.exit(
            "apt of this machine knows no mirror of Debian: is it Debian, and was apt-get update run?"
        )
    return sites[0]


@dataclass
class Result:
    """What has come of the suite with one Python; `good` also of what no test counts, such as the build."""

    python: str
    good: bool
    passed: int = 0
    failed: int = 0
    skipped: int = 0


def count(report: Path, output: str) -> tuple[int, int, int]:
    """Passed, failed, skipped: in pytest's JUnit report, if it has come to one, and by cmocka's lines."""
    counts = dict.fromkeys(("PASSED", "FAILED", "SKIPPED"), 0)
    for word, number in re.findall(
        r"^\[  (PASSED|FAILED|SKIPPED) +\].*?(\d+) test\(s\)", output, re.MULTILINE
    ):
        counts[word] += int(number)
    for suite in ET.parse(report).getroot().iter("testsuite") if report.exists() else ():
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped = int(suite.get("skipped", 0))
        counts["FAILED"] += failed
        counts["SKIPPED"] += skipped
        counts["PASSED"] += int(suite.get("tests", 0)) - failed - skipped
    return counts["PASSED"], counts["FAILED"], counts["SKIPPED"]


class Folder:
    """A release of Debian in a folder."""

    def __init__(self, suite: str) -> None:
        self.suite = suite
        self.path = ROOT / "build" / "debian" / suite
        self.source = "/srv/myserver"  # where every user may read it

    def make(self) -> None:
        """Let debootstrap fill it, unless it is there."""
        if (self.path / "complete").exists():
            return
        if not shutil.which("debootstrap"):
            sys.exit("debootstrap is missing: apt-get install debootstrap")
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        # A debootstrap of this machine's age does not know the newer releases; all are made alike.
        script = [] if (SCRIPTS / self.suite).exists() else [str(SCRIPTS / "sid")]
        print(f"{self.suite}: debootstrap", flush=True)
        run(
            "debootstrap",
            "--variant=minbase",
            f"--keyring={KEYRING}",
            self.suite,
            self.path,
            mirror(),
            *script,
        )
        (self.path / "complete").touch()

    def mount(self, stack: ExitStack) -> None:
        """The file systems of the kernel, for as long as the stack lasts."""
        for kind, options, place in (
            ("proc", ("-t", "proc"), "proc"),
            ("sysfs", ("-t", "sysfs"), "sys"),
            ("/dev", ("--rbind", "--make-rslave"), "dev"),
        ):
            target = self.path / place
            if not os.path.ismount(target):
                run("mount", *options, kind, target)
            stack.callback(unmount, target)

    def shell(self, script: str, check: bool = True) -> int:
        """Run a shell script inside."""
        command, environment = self.command(script)
        done = subprocess.run(command, env=environment, check=check, stdin=subprocess.DEVNULL)
        return done.returncode

    def tell(self, script: str) -> tuple[int, str]:
        """The same; also what it says, which is shown meanwhile."""
        command, environment = self.command(script)
        said = []
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                said.append(line)
        return process.returncode, "".join(said)

    def command(self, script: str) -> tuple[list[str], dict[str, str]]:
        """What runs a shell script inside, and its environment."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if re.match("PIP_|SSL_|https?_proxy", name)
        }
        kept |= {"HOME": "/root", "LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return ["chroot", str(self.path), "sh", "-ec", script], kept

    def configure_network(self) -> None:
        """As this machine has it."""
        # A mirror that stands still, as a snapshot does, has lists that are past their time.
        valid = os.environ.get("APT_CHECK_VALID_UNTIL", "true")
        (self.path / "etc/apt/apt.conf.d/99tests").write_text(
            f'Acquire::Check-Valid-Until "{valid}";\n'
        )
        for name in NETWORK:
            inside = self.path / name[1:]
            if Path(name).exists():
                inside.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(name, inside)

    def prepare(self) -> None:
        """Packages, the settings of the network, and a clone of this repository as it is committed."""
        self.configure_network()
        self.shell(
            "dpkg --configure -a  # a run before this one may have been interrupted\n"
            "apt-get update -q\n"
            f"DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends {' '.join(TOOLS)}\n"
        )
        self.configure_network()  # a package has put its own list of certificates there
        clone = self.path / self.source[1:]
        shutil.rmtree(clone, ignore_errors=True)
        run("git", "clone", "--quiet", "--no-hardlinks", ROOT, clone)

    def pythons(self) -> list[str]:
        """The Pythons of the release that can be embedded, oldest first; installs them."""
        self.shell(
            "names=$(apt-cache search --names-only '^python3\\.[0-9]+-dev$' | cut -d' ' -f1)\n"
            "for name in $names; do\n"
            "    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \\\n"
            "        $name ${name%-dev}-venv\n"
            "done\n"
        )
        names = [path.name for path in self.path.glob("usr/bin/python3.*")]
        minors = sorted(int(name[8:]) for name in names if re.fullmatch(r"python3\.\d+", name))
        return [f"python3.{minor}" for minor in minors if minor >= 11]

    def test(self, python: str, name: str = "") -> Result:
        """The whole suite, or what has that name, with one Python. Warnings of this release's compiler count."""
        print(f"{self.suite}: {python}", flush=True)
        report = "/root/report.xml"
        (self.path / report[1:]).unlink(missing_ok=True)
        make = f"make -C {self.source} PYTHON={python} WERROR=-Werror"
        make_tests = f"{make} -j$(nproc) test-installed PYTEST_ARGS=--junitxml={report}"
        script = f"{make} deps-test\n{make_tests} T={shlex.quote(name)}"
        status, said = self.tell(script)
        return Result(python, status == 0, *count(self.path / report[1:], said))

    def test_all(self, pythons: Sequence[str] = (), name: str = "") -> list[Result]:
        """With these Pythons, or with all. Makes the folder first."""
        self.make()
        with ExitStack() as stack:
            self.mount(stack)
            self.prepare()
            found = self.pythons()
            results = [self.test(python, name) for python in pythons or found]
            return results or [Result("the C library", self.test_without_python())]

    def test_without_python(self) -> bool:
        """What depends on this release's C library and not on Python's age."""
        print(
            f"{self.suite}: no Python of 3.11 or newer: only the wait for the interpreter",
            flush=True,
        )
        flags = "-std=gnu17 -O2 -Wall -Wextra -Werror -Wno-deprecated-declarations -D_GNU_SOURCE"
        return (
            self.shell(
                "DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \\\n"
                "    python3-dev libcmocka-dev pkg-config\n"
                f"cd {self.source}\n"
                f"gcc {flags} -iquote include -iquote src -o /tmp/test_gil tests/unit/python/test_gil.c src/base/base.c \\\n"
                "    -Wl,--export-dynamic-symbol=pthread_cond_timedwait \\\n"
                "    $(python3-config --includes | sed 's/-I/-isystem /g') \\\n"
                "    $(python3-config --ldflags --embed) -lcmocka -lpthread -ldl\n"
                "/tmp/test_gil",
                check=False,
            )
            == 0
        )


def main() -> int:
    """0: everything passed."""
    if os.geteuid() != 0:
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # undoes the mounts
    arguments = argparse.ArgumentParser(usage=__doc__)
    arguments.add_argument("suite")
    arguments.add_argument("-k", dest="name", default="")
    arguments.add_argument("pythons", nargs="*")
    given = arguments.parse_intermixed_args()
    results = Folder(given.suite).test_all(given.pythons, given.name)
    for result in results:
        print(f"{given.suite}: {result.python}: {'passed' if result.good else 'FAILED'}")
    return 0 if all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
