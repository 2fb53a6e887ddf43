"""Fills the database with the sample catalogue; a second run changes nothing."""

from argparse import ArgumentParser
from itertools import chain
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils.text import slugify

from catalogue import pictures, sample
from catalogue.models import Category, Price, Product, ProductImage, Review

BATCH = 1000


class Command(BaseCommand):
    """`manage.py populate [--products N]`."""

    help = "Fills the database with a made-up catalogue."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One option: how many."""
        parser.add_argument("--products", type=int, default=12_000, help="default: 12000")

    def handle(self, *args: Any, **options: Any) -> None:
        """Adds what is missing."""
        categories = self._categories()
        self._pictures()
        there = set(Product.objects.values_list("sku", flat=True))
        missing = [n for n in range(1, options["products"] + 1) if _sku(n) not in there]
        with transaction.atomic():
            for start in range(0, len(missing), BATCH):
                made = [sample.product(n) for n in missing[start : start + BATCH]]
                self._products(made, categories)
        self._price_list()
        self._superuser()
        self.stdout.write(f"{len(there) + len(missing)} products, {len(missing)} of them new")

    def _categories(self) -> dict[str, Category]:
        """The tree; returns its leaves by name."""
        leaves = {}
        for position, (name, children) in enumerate(sample.TREE.items()):
            root, _ = Category.objects.get_or_create(
                slug=slugify(name), defaults={"name": name, "position": position}
            )
            for number, child in enumerate(children):
                leaves[child], _ = Category.objects.get_or_create(
                    slug=slugify(child),
                    defaults={"name": child, "parent": root, "position": number},
                )
        return leaves

    def _pictures(self) -> None:
        """The files that the products' images name."""
        directory = settings.MEDIA_ROOT / "products"
        directory.mkdir(parents=True, exist_ok=True)
        for position, (_, leaf) in enumerate(sample.LEAVES):
            hue = position * 360 // len(sample.LEAVES)
            for number in range(sample.PICTURES_PER_CATEGORY):
                name = _picture(leaf, number)
                (settings.MEDIA_ROOT / name).write_text(pictures.still_life(name, hue))

    def _products(self, made: list[sample.SampleProduct], categories: dict[str, Category]) -> None:
        """Stores products with all that belongs to them."""
        stored = Product.objects.bulk_create(
            Product(
                category=categories[one.leaf],
                sku=_sku(one.number),
                name=one.name,
                slug=f"{slugify(one.name)}-{one.number}",
                description=one.description,
                stock=one.stock,
                featured=one.featured,
                created_at=one.created_at,
            )
            for one in made
        )
        pairs = list(zip(stored, made, strict=True))
        Price.objects.bulk_create(chain.from_iterable(_prices(*pair) for pair in pairs))
        ProductImage.objects.bulk_create(chain.from_iterable(_images(*pair) for pair in pairs))
        Review.objects.bulk_create(chain.from_iterable(_reviews(*pair) for pair in pairs))

    def _price_list(self) -> None:
        """A file to download."""
        prices = Price.objects.filter(currency=Price.Currency.EUR).order_by("product__sku")
        rows = prices.values_list("product__sku", "amount", "product__name")
        with (settings.VAR_DIR / "price-list.txt").open("w") as out:
            out.writelines(f"{sku}  {amount:>9} EUR  {name}\n" for sku, amount, name in rows)

    def _superuser(self) -> None:
        """admin/admin, while developing."""
        users = get_user_model().objects
        if settings.DEBUG and not users.filter(username="admin").exists():
            users.create_superuser("admin", "admin@example.com", "admin")


def _sku(number: int) -> str:
    return f"SH-{number:05}"


def _picture(leaf: str, number: int) -> str:
    """Name of a picture below MEDIA_ROOT."""
    return f"products/{slugify(leaf)}-{number + 1}.svg"


def _prices(stored: Product, made: sample.SampleProduct) -> list[Price]:
    return [
        Price(product=stored, currency=Price.Currency.EUR, amount=made.eur),
        Price(product=stored, currency=Price.Currency.USD, amount=made.usd),
    ]


def _images(stored: Product, made: sample.SampleProduct) -> list[ProductImage]:
    return [
        ProductImage(
            product=stored,
            file=_picture(made.leaf, picture),
            alt=f"{made.name}, view {position + 1}",
            position=position,
        )
        for position, picture in enumerate(made.pictures)
    ]


def _reviews(stored: Product, made: sample.SampleProduct) -> list[Review]:
    return [Review(product=stored, **vars(review)) for review in made.reviews]
