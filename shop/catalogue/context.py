"""What every template gets."""

from typing import Any

from django.http import HttpRequest

from catalogue.models import Category


def navigation(request: HttpRequest) -> dict[str, Any]:
    """The root categories for the menu; read from the database only where a template shows them."""
    return {"navigation": Category.objects.filter(parent=None)}
