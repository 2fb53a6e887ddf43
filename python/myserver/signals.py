"""Lets the application's signal handlers run on a worker that runs no Python at the moment.

Called by the C side; applications never import this module.
"""

import os
import signal

_set = signal.set_wakeup_fd
_ours = -1


def watch(fd: int) -> None:
    """From now on each signal with a handler in Python writes a byte to `fd`; -1: no more."""
    global _ours
    if signal.set_wakeup_fd is _set:
        signal.set_wakeup_fd = _set_wakeup_fd
        os.register_at_fork(after_in_child=lambda: watch(-1))
    before, _ours = _ours, fd
    theirs = _set(fd, warn_on_full_buffer=False)
    if theirs not in (-1, before):
        _set(theirs)


def _set_wakeup_fd(fd: int, *, warn_on_full_buffer: bool = True) -> int:
    """signal.set_wakeup_fd, in which the server's descriptor is not to be seen: it is there when the
    application has none.
    """
    is_theirs = fd != -1
    before = _set(fd if is_theirs else _ours, warn_on_full_buffer=is_theirs and warn_on_full_buffer)
    return -1 if before == _ours else before
