"""Changes the working directory when it is imported, as scripts that were daemons do."""

import os

os.chdir("/")


def application(environ, start_response):
    """Answer with the working directory."""
    body = os.getcwd().encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
