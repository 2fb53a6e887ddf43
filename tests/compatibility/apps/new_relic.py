"""New Relic's agent, as `newrelic.agent.initialize()` and its WSGI wrapper start it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import newrelic.agent

newrelic.agent.initialize()

from common import Environ, is_warm_up, serve  # noqa: E402


def work(environ: Environ, user: str) -> dict[str, Any]:
    """Puts the user into the transaction."""
    newrelic.agent.add_custom_attribute("user", user)
    return {}


plain = serve(work)
observed = newrelic.agent.WSGIApplicationWrapper(plain)


def application(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
    """The agent starts with the first request that it sees: not with one of the warm-up."""
    return (plain if is_warm_up(environ) else observed)(environ, start_response)
