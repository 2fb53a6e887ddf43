"""bjoern with several processes, as its documentation shows: listen, fork, run in each.

`bjoern_run.py MODULE:CALLABLE PROCESSES PORT|/SOCKET`; ends all with SIGTERM.
"""

import importlib
import os
import signal
import sys

import bjoern


def main() -> None:
    """See the top of the file."""
    sys.path[0] = ""
    name, processes, where = sys.argv[1:]
    module, _, attribute = name.partition(":")
    application = getattr(importlib.import_module(module), attribute or "application")
    address = (f"unix:{where}",) if where.startswith("/") else ("127.0.0.1", int(where))
    bjoern.listen(application, *address)
    children = []
    for _ in range(int(processes) - 1):
        child = os.fork()
        if child == 0:
            children = None
            break
        children.append(child)

    def on_term(*_: object) -> None:
        for child in children or []:
            os.kill(child, signal.SIGTERM)
        os._exit(0)

    signal.signal(signal.SIGTERM, on_term)
    bjoern.run()


if __name__ == "__main__":
    main()
