"""Signal handlers in Python, set by the import, by a hook and by requests; they say what they got."""

import asyncio
import os
import signal
import time

import myserver
from told import event, wait_until_let


def say(number, frame):
    """In the log."""
    event(f"got {signal.Signals(number).name} in {os.getpid()}.")


def fail(number, frame):
    """An exception that nobody catches."""
    raise ValueError("in the handler")


def slow(number, frame):
    """It takes long."""
    event("slow handler.")
    wait_until_let("handler")
    event("slow handler is done.")


signal.signal(signal.SIGUSR1, say)


@myserver.postfork
def set_handlers():
    """In each worker."""
    signal.signal(signal.SIGWINCH, say)
    signal.signal(signal.SIGALRM, say)
    signal.signal(signal.SIGIO, fail)
    signal.signal(signal.SIGPROF, slow)
    signal.setitimer(signal.ITIMER_REAL, 0.05)


async def with_handler():
    """asyncio has its own descriptor for signals, while it runs."""
    loop = asyncio.get_running_loop()
    got = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR2, got.set_result, "by asyncio")
    os.kill(os.getpid(), signal.SIGUSR2)
    said = await asyncio.wait_for(got, 20)
    loop.remove_signal_handler(signal.SIGUSR2)
    return said


def in_a_child():
    """A process that is forked gets its own signals, and tells nobody else of them."""
    pid = os.fork()
    if pid == 0:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGUSR1)
        os._exit(0)
    os.waitpid(pid, 0)
    return str(pid)


def application(environ, start_response):
    """What the path says."""
    action = environ["PATH_INFO"][1:]
    said = "hello"
    if action == "asyncio":
        said = asyncio.run(with_handler())
    elif action == "child":
        said = in_a_child()
    elif action == "wakeup":
        said = str(signal.set_wakeup_fd(-1) >= 0)
    elif action == "busy":
        event("busy.")
        wait_until_let("busy")
    elif action == "compute":
        event("computes.")
        while not os.path.exists("let-compute"):
            pass
    elif action == "sleep":
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [said.encode()]
