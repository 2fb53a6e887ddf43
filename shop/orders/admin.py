"""Orders and feedback in the admin."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from orders.models import Feedback, Order, OrderLine


class OrderLineInline(admin.TabularInline):
    """Lines, on the page of their order."""

    model = OrderLine
    extra = 0
    raw_id_fields = ["product"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[OrderLine]:
        """With the products, whose names a line has in its own."""
        return super().get_queryset(request).select_related("product")


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    """Orders."""

    list_display = ["id", "email", "created_at"]
    inlines = [OrderLineInline]


@admin.register(Feedback)
class FeedbackAdmin(admin.ModelAdmin):
    """Feedback."""

    list_display = ["name", "email", "created_at"]
