"""Addresses of the catalogue."""

from django.urls import path

from catalogue import views

urlpatterns = [
    path("", views.home, name="home"),
    path("category/<slug:slug>/", views.category, name="category"),
    path("product/<slug:slug>/", views.product, name="product"),
    path("search/", views.search, name="search"),
    path("export/products.csv", views.export, name="export"),
    path("availability/", views.availability, name="availability"),
    path("api/products", views.api_products, name="api-products"),
]
