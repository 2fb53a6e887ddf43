"""The catalogue."""

from django.apps import AppConfig


class CatalogueConfig(AppConfig):
    """Categories, products and what belongs to them."""

    name = "catalogue"
