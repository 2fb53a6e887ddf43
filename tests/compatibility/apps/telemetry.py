"""OpenTelemetry with its batches and OTLP over HTTP, started at import; one span a request."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from common import Environ, is_warm_up, serve

provider = TracerProvider()
provider.add_span_processor(
    BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{os.environ['COLLECTOR']}/v1/traces"))
)
trace.set_tracer_provider(provider)


def work(environ: Environ, user: str) -> dict[str, Any]:
    """Puts the user into the span of the request."""
    trace.get_current_span().set_attribute("user", user)
    return {}


plain = serve(work)
traced = OpenTelemetryMiddleware(plain)


def application(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Warm-up requests have no span."""
    return (plain if is_warm_up(environ) else traced)(environ, start_response)
