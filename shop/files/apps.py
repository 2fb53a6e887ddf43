"""Uploads and downloads."""

from django.apps import AppConfig


class FilesConfig(AppConfig):
    """Files in and out."""

    name = "files"
