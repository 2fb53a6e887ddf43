"""The pages of the catalogue."""

import asyncio
import csv
import io
import time
from collections import defaultdict
from collections.abc import Iterator

from django.core.paginator import Paginator
from django.db.models import Count, F, Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from catalogue.models import Category, Product, Review
from orders.forms import OrderForm

PAGE_SIZE = 24
EXPORT_ROWS = 250  # per chunk: about 16 KB
SORTS = {
    "new": ("Newest", ["-created_at", "-pk"]),
    "name": ("Name", ["name", "pk"]),
    "rating": ("Best rated", [F("rating").desc(nulls_last=True), "-review_count", "pk"]),
}
SUPPLIERS = [("Northern depot", 20), ("Harbour warehouse", 35), ("Partner in Lyon", 50)]


def _category_tree() -> list[tuple[Category, list[Category]]]:
    """Roots with their children; every child has `product_count`."""
    children = defaultdict(list)
    roots = []
    for category in Category.objects.annotate(product_count=Count("products")):
        if category.parent_id is None:
            roots.append(category)
        else:
            children[category.parent_id].append(category)
    return [(root, children[root.pk]) for root in roots]


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Categories with counts, featured and new products, the latest reviews."""
    return render(
        request,
        "catalogue/home.html",
        {
            "tree": _category_tree(),
            "featured": Product.objects.filter(featured=True).for_cards()[:8],
            "newest": Product.objects.order_by("-created_at", "-pk").for_cards()[:4],
            "reviews": Review.objects.select_related("product__category")[:6],
        },
    )


@require_safe
def category(request: HttpRequest, slug: str) -> HttpResponse:
    """The products of a category and of those below it, in pages."""
    shown = get_object_or_404(Category.objects.select_related("parent"), slug=slug)
    sort = request.GET.get("sort", "new")
    order = SORTS.get(sort, SORTS["new"])[1]
    matching = Product.objects.filter(Q(category=shown) | Q(category__parent=shown))
    page = Paginator(matching.for_cards().order_by(*order), PAGE_SIZE).get_page(
        request.GET.get("page")
    )
    context = {
        "category": shown,
        "children": shown.children.annotate(product_count=Count("products")),
        "page": page,
        "sort": sort,
        "sorts": [(key, label) for key, (label, _) in SORTS.items()],
    }
    return render(request, "catalogue/category.html", context)


@require_safe
def product(request: HttpRequest, slug: str) -> HttpResponse:
    """All about one product, and some like it."""
    shown = get_object_or_404(
        Product.objects.with_rating()
        .select_related("category__parent")
        .prefetch_related("images", "prices", "reviews"),
        slug=slug,
    )
    similar = Product.objects.filter(category=shown.category).exclude(pk=shown.pk)
    context = {"product": shown, "similar": similar.for_cards()[:4], "form": OrderForm()}
    return render(request, "catalogue/product.html", context)


def _search(words: list[str]) -> QuerySet[Product]:
    """Products that have every word in their name or description."""
    found = Product.objects.all()
    for word in words:
        found = found.filter(Q(name__icontains=word) | Q(description__icontains=word))
    return found


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    """`?q=words`: products that have all of them."""
    text = request.GET.get("q", "").strip()[:100]
    found = _search(text.split()) if text else Product.objects.none()
    page = Paginator(found.for_cards().order_by("name", "pk"), PAGE_SIZE).get_page(
        request.GET.get("page")
    )
    return render(request, "catalogue/search.html", {"page": page, "text": text})


def _export_lines() -> Iterator[str]:
    """The catalogue as CSV, some rows at a time, so that it never is in memory whole."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["sku", "name", "category", "stock", "prices"])
    products = Product.objects.order_by("sku").select_related("category")
    products = products.defer("description").prefetch_related("prices")
    for number, item in enumerate(products.iterator(chunk_size=EXPORT_ROWS), start=1):
        prices = " ".join(str(price) for price in item.prices.all())
        writer.writerow([item.sku, item.name, item.category.name, item.stock, prices])
        if number % EXPORT_ROWS == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


@require_safe
def export(request: HttpRequest) -> StreamingHttpResponse:
    """All products as CSV, streamed."""
    return StreamingHttpResponse(
        _export_lines(),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="products.csv"'},
    )


async def _ask_supplier(name: str, latency_ms: int) -> dict[str, object]:
    """Stands for a request to another company's service."""
    await asyncio.sleep(latency_ms / 1000)
    return {"name": name, "latency_ms": latency_ms, "days": 1 + latency_ms // 20}


@require_safe
async def availability(request: HttpRequest) -> HttpResponse:
    """Asks all suppliers at once, and the database meanwhile."""
    begun = time.perf_counter()
    in_stock, sold_out, *suppliers = await asyncio.gather(
        Product.objects.filter(stock__gt=0).acount(),
        Product.objects.filter(stock=0).acount(),
        *(_ask_supplier(name, latency_ms) for name, latency_ms in SUPPLIERS),
    )
    return JsonResponse(
        {
            "in_stock": in_stock,
            "sold_out": sold_out,
            "suppliers": suppliers,
            "elapsed_ms": round((time.perf_counter() - begun) * 1000),
            "one_by_one_ms": sum(latency_ms for _, latency_ms in SUPPLIERS),
        }
    )


def _product_json(item: Product) -> dict[str, object]:
    """One product for programs."""
    return {
        "sku": item.sku,
        "name": item.name,
        "category": item.category.slug,
        "stock": item.stock,
        "rating": item.rating,
        "prices": {price.currency: str(price.amount) for price in item.prices.all()},
        "url": item.get_absolute_url(),
    }


@require_safe
def api_products(request: HttpRequest) -> JsonResponse:
    """`?q=words&page=1`: products as JSON."""
    found = _search(request.GET.get("q", "")[:100].split()).for_cards().order_by("sku")
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    return JsonResponse(
        {
            "count": page.paginator.count,
            "page": page.number,
            "pages": page.paginator.num_pages,
            "products": [_product_json(item) for item in page],
        }
    )
