"""Orders and feedback: what visitors write into the database."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from catalogue.models import Product


class Order(models.Model):
    """One visitor's order."""

    email = models.EmailField("e-mail")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"order {self.pk}"


class OrderLine(models.Model):
    """So many of one product, at the price of that moment."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="order_lines")
    quantity = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1), MaxValueValidator(99)]
    )
    unit_price = models.DecimalField(max_digits=9, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.quantity} × {self.product}"


class Feedback(models.Model):
    """A message to the shop."""

    name = models.CharField(max_length=60)
    email = models.EmailField("e-mail", blank=True)
    message = models.TextField(max_length=4000)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        verbose_name_plural = "feedback"

    def __str__(self) -> str:
        return f"{self.name}: {self.message[:40]}"
