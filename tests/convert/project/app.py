"""The same application as a file of its own, under another name."""

from shop.wsgi import application as app
from shop.wsgi import create_app

__all__ = ["app", "create_app"]
