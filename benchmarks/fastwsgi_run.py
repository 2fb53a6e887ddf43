"""fastwsgi with several processes, as its documentation shows: it forks, and each listens.

`fastwsgi_run.py MODULE:CALLABLE PROCESSES PORT`; ends all with SIGTERM.
"""

import importlib
import os
import signal
import sys

import fastwsgi


def main() -> None:
    """See the top of the file."""
    sys.path[0] = ""
    name, processes, port = sys.argv[1:]
    module, _, attribute = name.partition(":")
    application = getattr(importlib.import_module(module), attribute or "application")
    parent = os.getpid()

    def on_term(*_: object) -> None:
        for child in fastwsgi.server.worker_list if os.getpid() == parent else []:
            os.kill(child, signal.SIGTERM)
        os._exit(0)

    signal.signal(signal.SIGTERM, on_term)
    fastwsgi.run(wsgi_app=application, host="127.0.0.1", port=int(port), workers=int(processes))


if __name__ == "__main__":
    main()
