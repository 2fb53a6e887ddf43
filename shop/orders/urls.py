"""Addresses of orders and feedback."""

from django.urls import path

from orders import views

urlpatterns = [
    path("product/<slug:slug>/order", views.place_order, name="place-order"),
    path("feedback/", views.feedback, name="feedback"),
]
