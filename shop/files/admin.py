"""Uploads in the admin."""

from django.contrib import admin

from files.models import Upload


@admin.register(Upload)
class UploadAdmin(admin.ModelAdmin):
    """Uploads."""

    list_display = ["name", "size", "sha256", "created_at"]
