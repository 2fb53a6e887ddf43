"""Sets what signals do, as scripts and libraries do."""

import os
import signal

if "IGNORED_AT_IMPORT" in os.environ:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def ignored() -> str:
    """The signals that the kernel does not deliver to this process."""
    with open("/proc/self/status") as status:
        (mask,) = (int(line.split()[1], 16) for line in status if line.startswith("SigIgn"))
    return " ".join(number.name for number in signal.Signals if mask >> (number - 1) & 1)


def application(environ, start_response):
    """`/file`: a large file, while a broken pipe is deadly; else the signals that are ignored."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/file":
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        with open("large", "wb") as file:
            file.truncate(100_000_000)
        return environ["wsgi.file_wrapper"](open("large", "rb"))  # noqa: SIM115
    environ["wsgi.input"].read()
    return [ignored().encode()]
