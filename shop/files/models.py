"""Files that visitors sent."""

from django.core.files.storage import Storage, storages
from django.db import models
from django.urls import reverse


def _storage() -> Storage:
    """Uploads have a place of their own (settings.STORAGES)."""
    return storages["uploads"]


class Upload(models.Model):
    """One uploaded file."""

    file = models.FileField(storage=_storage)
    name = models.CharField(max_length=200)
    size = models.PositiveBigIntegerField("size in bytes")
    sha256 = models.CharField("SHA-256", max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Where it is downloaded."""
        return reverse("file", args=[self.pk])
