"""Pages for operators, tests and measurements: alive, what a request looks like, wait, fail."""

import time

from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

WAIT_MS_MAX = 10_000


def healthz(request: HttpRequest) -> HttpResponse:
    """200 when the database answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def show_request(request: HttpRequest) -> JsonResponse:
    """What Django sees of the client behind proxies."""
    return JsonResponse(
        {
            "remote_addr": request.META["REMOTE_ADDR"],
            "scheme": request.scheme,
            "host": request.get_host(),
            "path": request.path,
            "url": request.build_absolute_uri(),
            "multiprocess": request.META["wsgi.multiprocess"],
            "multithread": request.META["wsgi.multithread"],
        }
    )


@require_safe
def wait(request: HttpRequest) -> JsonResponse:
    """A page that waits for an upstream: `?ms=50`. It holds its database connection meanwhile."""
    try:
        wait_ms = int(request.GET.get("ms", "50"))
    except ValueError:
        wait_ms = -1
    if not 0 <= wait_ms <= WAIT_MS_MAX:
        return JsonResponse({"error": f"ms must be from 0 to {WAIT_MS_MAX}"}, status=400)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    time.sleep(wait_ms / 1000)
    return JsonResponse({"waited_ms": wait_ms})


def fail(request: HttpRequest) -> HttpResponse:
    """A view with a bug."""
    raise RuntimeError("this page always fails")
