"""The smallest application: what most tests of the server itself run."""

BODY = b"Hello, world!\n"


def application(environ, start_response):
    """Answer everything with the same text."""
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]
    start_response("200 OK", headers)
    return [BODY]
