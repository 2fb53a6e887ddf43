"""What a developer sees on the terminal: access lines, and what the server does."""

import contextlib
import os
import time

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "grey": "90", "bold": "1"}
_BY_STATUS = {"2": "green", "3": "cyan", "4": "yellow", "5": "red"}


def has_colours() -> bool:
    """Whether stderr is a terminal that shows colours, and nobody has said NO_COLOR."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and os.isatty(2)


def paint(text: str, colour: str) -> str:
    """`text` in a colour, where stderr has them."""
    return f"\033[{_COLOURS[colour]}m{text}\033[0m" if has_colours() else text


def say(text: str, colour: str = "grey") -> None:
    """Writes one line with the time to stderr."""
    _write(f"{paint(time.strftime('%H:%M:%S'), 'grey')}  {paint(_printable(text), colour)}\n")


def block(text: str) -> None:
    """Writes lines to stderr, such as a traceback."""
    _write("".join(f"{_printable(line)}\n" for line in text.split("\n")))


def _printable(text: str) -> str:
    """What a client has sent may be in it, and shall not move the cursor."""
    return "".join(
        c if (c >= " " and not "\x7f" <= c < "\xa0") or c == "\t" else f"\\x{ord(c):02x}"
        for c in text
    )


def access(method: str, target: str, status: str, seconds: float) -> None:
    """Writes the line of one request. All texts are ASCII without control characters."""
    colour = _BY_STATUS.get(status[:1], "red")
    took = f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
    _write(
        f"{paint(time.strftime('%H:%M:%S'), 'grey')}  {paint(status, colour)} {method} {target} "
        f"{paint(took, 'grey')}\n"
    )


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # of a terminal that is gone
        rest = text.encode("utf-8", "backslashreplace")
        while rest:
            rest = rest[os.write(2, rest) :]


def can_be_read() -> bool:
    """Whether there is a terminal, and this process is not in its background: then the kernel would
    stop it when it reads.
    """
    with contextlib.suppress(OSError):
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    return False


def restore() -> None:
    """Lets the terminal show again what is typed: a debugger that was ended at its prompt has
    switched that off.
    """
    if not can_be_read():
        return
    import termios

    with contextlib.suppress(termios.error):
        modes = termios.tcgetattr(0)
        if not modes[3] & termios.ECHO:
            modes[3] |= termios.ECHO | termios.ICANON
            termios.tcsetattr(0, termios.TCSANOW, modes)
