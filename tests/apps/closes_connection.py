"""The same, and the hook that makes it fit to be warmed up."""

import keeps_connection
import myserver
from keeps_connection import application

__all__ = ["application"]


@myserver.prefork
def close() -> None:
    """The workers open their own."""
    keeps_connection.local.connection.close()
    keeps_connection.local.__dict__.clear()
