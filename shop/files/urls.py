"""Addresses of files."""

from django.urls import path

from files import views

urlpatterns = [
    path("", views.uploads, name="files"),
    path("<int:pk>/", views.file, name="file"),
    path("price-list.txt", views.price_list, name="price-list"),
]
