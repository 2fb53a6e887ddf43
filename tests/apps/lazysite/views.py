"""The middleware."""

from collections.abc import Callable

from told import event


def told(get_response: Callable) -> Callable:
    """Says that a request came."""

    def middleware(request: object) -> object:
        event("middleware runs")
        return get_response(request)

    return middleware
