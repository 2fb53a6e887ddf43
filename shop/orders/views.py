"""Placing an order, sending feedback."""

from django.contrib import messages
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from catalogue.models import Price, Product
from orders.forms import FeedbackForm, OrderForm
from orders.models import Order, OrderLine


def _place(product: Product, email: str, quantity: int) -> Order | None:
    """Takes the goods from the stock and stores the order; None when there are not enough."""
    with transaction.atomic():
        # Check and decrement in one statement: two buyers cannot both get the last one.
        enough = Product.objects.filter(pk=product.pk, stock__gte=quantity)
        if not enough.update(stock=F("stock") - quantity):
            return None
        price = product.prices.get(currency=Price.Currency.EUR)
        order = Order.objects.create(email=email)
        OrderLine.objects.create(
            order=order, product=product, quantity=quantity, unit_price=price.amount
        )
    return order


@require_POST
def place_order(request: HttpRequest, slug: str) -> HttpResponse:
    """Orders one product and returns to its page."""
    product = get_object_or_404(Product, slug=slug)
    form = OrderForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Please give a quantity from 1 to 99 and an e-mail address.")
    elif order := _place(product, form.cleaned_data["email"], form.cleaned_data["quantity"]):
        messages.success(request, f"Thank you, this is order {order.pk}.")
    else:
        messages.error(request, "There are not that many left.")
    return redirect(product)


@require_http_methods(["GET", "HEAD", "POST"])
def feedback(request: HttpRequest) -> HttpResponse:
    """The feedback form."""
    form = FeedbackForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        form.save()
        messages.success(request, "Thank you, your message has arrived.")
        return redirect("feedback")
    return render(request, "orders/feedback.html", {"form": form})
