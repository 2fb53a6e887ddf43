"""A Flask application under an agent: started by the agent's own command, or as its page says ($AGENT)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from flask import Flask, jsonify, request

from common import Environ, is_warm_up, serve

AGENT = os.environ["AGENT"]
flask = Flask(__name__)

if AGENT == "elastic":
    from elasticapm.contrib.flask import ElasticAPM

    ElasticAPM(flask)


def note(user: str) -> None:
    """Puts the user into what the agent sends of this request."""
    if AGENT == "elastic":
        import elasticapm

        elasticapm.label(user=user)
    elif AGENT == "datadog":
        from ddtrace.trace import tracer

        root = tracer.current_root_span()
        if root is not None:
            root.set_tag("user", user)
    elif AGENT == "opentelemetry":
        from opentelemetry import trace

        trace.get_current_span().set_attribute("user", user)
    elif AGENT == "newrelic":
        import newrelic.agent

        newrelic.agent.add_custom_attribute("user", user)


@flask.route("/")
def index() -> object:
    """The user and the pid."""
    user = request.args["user"]
    note(user)
    return jsonify(user=user, pid=os.getpid())


plain = serve(lambda environ, user: {})


def application(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Warm-up requests are seen by no agent."""
    return (plain if is_warm_up(environ) else flask)(environ, start_response)
