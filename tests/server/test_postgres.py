"""The shop with a real PostgreSQL: pages, and how many connections they take."""

import psycopg
import pytest

from harness import FLAVOUR, wait_for
from shop_client import (
    PRODUCTS,
    Client,
    at_once,
    check_availability,
    check_export,
    check_feedback,
    check_home,
    check_upload,
    populate,
    shop_options,
)

CONNECTIONS = "FROM pg_stat_activity WHERE application_name = 'shop'"


@pytest.fixture(scope="module")
def options(postgres, tmp_path_factory):
    """How to serve a populated shop; its connections can be told by their name."""
    var_dir = tmp_path_factory.mktemp("shop")
    populate(var_dir, DATABASE_URL=postgres)
    return shop_options(var_dir, DATABASE_URL=f"{postgres}?application_name=shop")


@pytest.fixture
def query(postgres):
    """Asks PostgreSQL from beside: the first value of an answer."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        yield lambda sql: connection.execute(sql).fetchone()[0]


@pytest.mark.parametrize(("workers", "threads"), [(1, 1), (2, 4)])
def test_pages(server, options, query, workers, threads):
    """What works with SQLite works here."""
    shop = server(workers=workers, threads=threads, **options)
    before = query("SELECT count(*) FROM orders_feedback")
    with Client(shop.url) as client:
        check_home(client)
        check_export(client)
        check_availability(client)
        check_feedback(client)
        check_upload(client, 100_000)
        assert client.get("/api/products?q=OAK").json()["count"] > 0
    assert query("SELECT count(*) FROM catalogue_product") == PRODUCTS
    assert query("SELECT count(*) FROM orders_feedback") == before + 1


def test_connections_are_bounded(server, options, query):
    """Never more connections than threads, kept between requests, none left behind."""
    shop = server(workers=2, threads=4, **options)
    seen = []

    def visit(client: Client) -> None:
        for number in range(1, 6):
            assert client.get("/diagnostics/wait?ms=50").status == 200
            assert client.get(f"/api/products?page={number}").json()["page"] == number
            assert client.get("/availability/").status == 200
            seen.append(client.get("/").status)

    at_once(16, shop.url, visit)
    assert seen == [200] * 80
    assert 2 <= query(f"SELECT count(*) {CONNECTIONS}") <= 8
    assert shop.stop() == 0
    # The server's end of a closed connection lives for a moment longer.
    wait_for(lambda: query(f"SELECT count(*) {CONNECTIONS}") == 0, what="connections to end")


def test_waiting_requests_share_workers(server, options, query):
    """Eight requests that wait run together: more of them than one worker has threads."""
    shop = server(workers=2, threads=4, **options)

    def visit(client: Client) -> None:
        for _ in range(3):
            assert client.get("/diagnostics/wait?ms=300").status == 200

    def more_than_one_worker() -> bool:
        at_once(8, shop.url, visit)
        return bool(query(f"SELECT count(*) {CONNECTIONS}") > 4)

    wait_for(more_than_one_worker, what="eight that come together")
    assert query(f"SELECT count(*) {CONNECTIONS}") <= 8


def test_lost_connections(server, options, query):
    """A restarted database costs no request: dead connections are noticed and replaced."""
    shop = server(workers=1, threads=2, **options)
    with Client(shop.url) as client:
        assert client.get("/").status == 200
        assert query(f"SELECT count(pg_terminate_backend(pid)) {CONNECTIONS}") >= 1
        wait_for(lambda: query(f"SELECT count(*) {CONNECTIONS}") == 0, what="connections to end")
        assert client.get("/").status == 200


def test_concurrent_orders(server, options, query):
    """Visitors who want the last ones at once do not get more than there are."""
    shop = server(workers=2, threads=4, **options)
    stock = "SELECT stock FROM catalogue_product WHERE sku = 'SH-00001'"
    query("UPDATE catalogue_product SET stock = 5 WHERE sku = 'SH-00001' RETURNING stock")
    slug = query("SELECT slug FROM catalogue_product WHERE sku = 'SH-00001'")
    orders = query("SELECT count(*) FROM orders_order")

    def visit(client: Client) -> None:
        client.get("/feedback/")  # for the token
        sent = client.post(f"/product/{slug}/order", quantity="1", email="ada@example.com")
        assert sent.status == 302

    at_once(8, shop.url, visit)
    assert query(stock) == 0
    assert query("SELECT count(*) FROM orders_order") == orders + 5


@pytest.mark.skipif(FLAVOUR == "tsan", reason="the sanitizer has a thread of its own")
def test_refork(server, options, query):
    """A worker that becomes the mold has closed its connections, and its workers open their own."""
    shop = server(workers=2, threads=4, refork_after="40", **options)

    def visit(client: Client) -> None:
        while not shop.log_contains("reloaded: all workers are of generation 2", 0):
            assert client.get("/").status == 200
            assert client.get("/diagnostics/wait?ms=5").status == 200
            assert "refork failed" not in shop.log
        for number in range(1, 6):
            assert client.get(f"/api/products?page={number}").json()["page"] == number

    at_once(8, shop.url, visit)
    wait_for(lambda: query(f"SELECT count(*) {CONNECTIONS}") <= 8, what="the old workers to end")
