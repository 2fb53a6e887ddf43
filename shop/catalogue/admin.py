"""The catalogue in the admin."""

from django.contrib import admin

from catalogue.models import Category, Price, Product, ProductImage, Review


class PriceInline(admin.TabularInline):
    """Prices, on the page of their product."""

    model = Price
    extra = 0


class ProductImageInline(admin.TabularInline):
    """Images, on the page of their product."""

    model = ProductImage
    extra = 0


@admin.register(Category)
class CategoryAdmin(admin.ModelAdmin):
    """Categories."""

    list_display = ["name", "parent", "position"]
    list_select_related = ["parent"]
    prepopulated_fields = {"slug": ["name"]}


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    """Products."""

    list_display = ["sku", "name", "category", "stock", "featured", "created_at"]
    list_filter = ["featured", "category"]
    list_select_related = ["category"]
    search_fields = ["sku", "name"]
    date_hierarchy = "created_at"
    inlines = [PriceInline, ProductImageInline]


@admin.register(Review)
class ReviewAdmin(admin.ModelAdmin):
    """Reviews."""

    list_display = ["title", "product", "author", "rating", "created_at"]
    list_filter = ["rating"]
    list_select_related = ["product"]
    raw_id_fields = ["product"]
