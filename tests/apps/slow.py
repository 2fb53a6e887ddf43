"""Takes its time: /2.5 answers after 2.5 seconds, / at once; both say which process ran it."""

import os
import time


def application(environ, start_response):
    """Sleep as long as the path says, then answer with the pid."""
    seconds = float(environ["PATH_INFO"].strip("/") or 0)
    if seconds:
        print(f"sleeping {seconds:g} s", flush=True)
        time.sleep(seconds)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
