"""Applications that keep a connection of their thread open, as many do with a database."""

import os
import socket
import threading

local = threading.local()
database = socket.create_server(("127.0.0.1", 0))


def application(environ, start_response):
    """Answers with the process that opened the connection of this thread."""
    if not hasattr(local, "connection"):
        local.connection = socket.create_connection(database.getsockname())
        local.opener = os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"own" if local.opener == os.getpid() else b"shared"]
