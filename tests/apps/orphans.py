"""What applications leave behind: orphans, zombies; and how a child of theirs ends at TERM."""

import os
import subprocess
import time


def orphan() -> str:
    """A grandchild whose parent is gone when it ends."""
    subprocess.run(["sh", "-c", "sleep 0.1 & exit"], check=True)
    return "left"


def zombies() -> str:
    """Five children that have ended, and are never waited for."""
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return "dead"


def child() -> str:
    """The signal that has ended a child, which was told to end."""
    with subprocess.Popen(["sleep", "60"]) as process:
        time.sleep(0)
        process.terminate()
        return str(-process.wait())


CASES = {"orphan": orphan, "zombies": zombies, "child": child}


def application(environ, start_response):
    """/CASE; / says hello."""
    case = CASES.get(environ["PATH_INFO"].lstrip("/"), lambda: "hello")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [case().encode()]
