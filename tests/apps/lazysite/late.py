"""Views, which only the URLconf imports."""

import json

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template import engines
from django.urls import get_resolver
from django.utils.translation import trans_real


def state(_request: HttpRequest) -> HttpResponse:
    """What was ready when the request came."""
    engine = engines.__dict__.get("_engines", {}).get("django")
    facts = {
        "languages": sorted(trans_real._translations),
        "reverse": sorted(get_resolver()._reverse_dict),
        "relations": "fields_map" in User._meta.__dict__,
        "loaders": engine is not None and "template_loaders" in engine.engine.__dict__,
    }
    return HttpResponse(json.dumps(facts))


def private(request: HttpRequest) -> HttpResponse:
    """For those with a cookie."""
    if "session" not in request.COOKIES:
        return HttpResponseRedirect("/accounts/login/?next=/inner/private")
    import colorsys

    return HttpResponse(colorsys.__name__)
