"""Filters: how the shop writes prices and ratings."""

from django import template
from django.contrib.humanize.templatetags.humanize import intcomma

from catalogue.models import Price

register = template.Library()


@register.filter
def money(price: Price) -> str:
    """1234.5 EUR as `€ 1,234.50`."""
    return f"{price.get_currency_display()}\N{NO-BREAK SPACE}{intcomma(price.amount)}"


@register.filter
def stars(rating: float | None) -> str:
    """3.6 as four full stars and an empty one; no stars without a rating."""
    if rating is None:
        return ""
    full = round(rating)
    return "★" * full + "☆" * (5 - full)
