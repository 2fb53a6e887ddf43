"""Runs tests as the root of a kernel of its own that has control groups of version 2: user-mode Linux.

    MYSERVER_BIN=... python3 tests/tools/cgroup2.py PYTHON [ARGUMENT OF PYTEST ...]

It sees the files of this machine and cannot write to them. It has one CPU, and is slow.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INIT = """\
#!/bin/sh
export {environment}
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for directory in /dev/shm /run /tmp; do mount -t tmpfs tmpfs $directory; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo +cpu +memory >/sys/fs/cgroup/cgroup.subtree_control
ip link set lo up
cd {root}
{command}
echo "status $?"
echo o >/proc/sysrq-trigger
sleep 60
"""


def main(python: str, *arguments: str) -> int:
    """pytest's exit status; 1, too, when the kernel has not come to its end."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("MYSERVER_")}
    kept |= {"HOME": "/root", "LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    said = ""
    with tempfile.TemporaryDirectory() as name:
        init = Path(name, "init")
        init.write_text(
            INIT.format(
                environment=shlex.join(f"{key}={value}" for key, value in kept.items()),
                root=shlex.quote(str(ROOT)),
                command=shlex.join([python, "-m", "pytest", "-p", "no:cacheprovider", *arguments]),
            )
        )
        init.chmod(0o755)
        kernel = ["linux.uml", "mem=2G", "rootfstype=hostfs", "rootflags=/", "ro", f"init={init}"]
        # Its memory is a file that can be executed from.
        with subprocess.Popen(
            [*kernel, "con=null", "con0=null,fd:1", "quiet"],
            env={**os.environ, "TMPDIR": "/dev/shm"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                said = line.removeprefix("status ") if line.startswith("status ") else said
    return int(said or 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
