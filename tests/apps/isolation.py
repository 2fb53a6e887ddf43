"""What a process that the application starts gets from the server, and what it must not."""

import os
import subprocess
import sys
import time

LIST = "import os; print(*sorted(f'{n}={os.readlink(f\"/proc/self/fd/{n}\")}' for n in OPEN))"
# The child's own look at the directory is the lowest free descriptor: it is not among them.
LIST = LIST.replace(
    "OPEN", "[n for n in os.listdir('/proc/self/fd') if os.path.exists(f'/dev/fd/{n}')]"
)


def inherited():
    """The descriptors of a process that is started without closing anything."""
    done = subprocess.run(
        [sys.executable, "-c", LIST], close_fds=False, stdin=subprocess.DEVNULL, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_file():
    """The mode of a file that the application makes."""
    with open("made", "w"):
        pass
    return f"{os.stat('made').st_mode & 0o777:04o}".encode()


def fork():
    """A process that outlives the request; its number."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    return str(pid).encode()


ACTIONS = {"/fork": fork, "/inherited": inherited, "/file": make_file, "/": lambda: b"hello"}
if os.environ.get("FORK_AT_IMPORT"):
    print("forked at import:", fork().decode(), flush=True)
print("at import:", inherited().decode(), flush=True)


def application(environ, start_response):
    """Read the body to its end, then do what the path says."""
    body = ACTIONS[environ["PATH_INFO"]]()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
