"""Orders and feedback."""

from django.apps import AppConfig


class OrdersConfig(AppConfig):
    """What visitors send us."""

    name = "orders"
