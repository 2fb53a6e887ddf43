"""What an application leaves behind for the end of a worker, as $LEAVE says; / answers at once."""

import atexit
import os
import sys
import threading
import time

import myserver


def say(text: str) -> None:
    """Print in one piece: print() writes the end of the line by itself."""
    os.write(1, f"{text}\n".encode())


def hook() -> None:
    """Run at exit."""
    say(f"atexit in {os.getpid()}")


def stuck_hook() -> None:
    """Never end at exit."""
    say("atexit is stuck")
    time.sleep(600)


def bad_hook() -> None:
    """Fail at exit."""
    raise ValueError("bad hook")


def work(seconds: float) -> None:
    """A thread of the application."""
    time.sleep(seconds)
    say("the thread has ended")


@myserver.postfork
def begin() -> None:
    """Leave in every worker what $LEAVE says."""
    for what in os.environ.get("LEAVE", "").split():
        if what == "thread":
            threading.Thread(target=work, args=(1,)).start()
        elif what == "stuck_thread":
            threading.Thread(target=work, args=(600,)).start()
        elif what == "daemon":
            threading.Thread(target=work, args=(600,), daemon=True).start()
        else:
            atexit.register(globals()[what])


def application(environ, start_response):
    """/exit calls sys.exit(), /os-exit os._exit()."""
    if environ["PATH_INFO"] == "/exit":
        sys.exit("enough")
    if environ["PATH_INFO"] == "/os-exit":
        os._exit(3)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
