"""breakpoint() in a server: the debugger has the terminal for itself until its request ends."""

import os
import sys
import threading

from myserver.develop import terminal

_terminal = threading.Lock()  # held while the request of a thread is in the debugger
_mine = threading.local()


def install() -> None:
    """Makes breakpoint() wait while another request is in the debugger.

    Not where the developer has chosen a debugger (PYTHONBREAKPOINT) or the application one.
    """
    if not os.environ.get("PYTHONBREAKPOINT") and sys.breakpointhook is sys.__breakpointhook__:
        sys.breakpointhook = _break


def _break() -> None:
    import pdb

    if not terminal.can_be_read():
        terminal.say("breakpoint() is passed over: the server has no terminal to read", "yellow")
        return
    if not getattr(_mine, "debugs", False):
        _terminal.acquire()
        _mine.debugs = True
    terminal.restore()
    debugger = pdb.Pdb()
    debugger.set_trace(sys._getframe(1))


def leave() -> None:
    """The application has returned from what this thread has called: its debugger ends."""
    if getattr(_mine, "debugs", False):
        _mine.debugs = False
        sys.settrace(None)
        _terminal.release()
