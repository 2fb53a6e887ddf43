"""The shop, a real Django project, through the real server, with SQLite."""

import sqlite3
import threading
import time

import pytest

from control_client import stats
from harness import PATIENCE_S, SLOWNESS
from shop_client import (
    PRODUCTS,
    Client,
    at_once,
    check_availability,
    check_export,
    check_feedback,
    check_home,
    check_upload,
    is_whole,
    shop_options,
)


@pytest.fixture(params=[(1, 1), (2, 4)], ids=["1x1", "2x4"])
def shop(request, server, shop_var):
    """The started server with the shop, for one worker with one thread and for several."""
    workers, threads = request.param
    control = "unix:control.sock"
    return server(workers=workers, threads=threads, control=control, **shop_options(shop_var))


@pytest.fixture
def client(shop):
    """A browser at the shop."""
    with Client(shop.url) as client:
        yield client


@pytest.fixture
def database(shop_var):
    """The shop's database, seen from beside."""
    connection = sqlite3.connect(shop_var / "shop.sqlite3", timeout=20)
    yield connection
    connection.close()


def some_product(client: Client) -> str:
    """The address of a product that is in stock."""
    products = client.get("/api/products").json()["products"]
    return next(one["url"] for one in products if one["stock"] > 0)


def test_pages(client):
    """Home, product, category, search, API: whole, and all over one connection."""
    check_home(client)
    first = client.socket
    product = client.get(some_product(client))
    assert is_whole(product)
    assert 'name="csrfmiddlewaretoken"' in product.text
    assert "/media/products/" in product.text
    for path, text in {
        "/category/kitchen/": "Knives",
        "/category/knives/?sort=rating": "Kitchen",
        "/search/?q=oak": "“oak”",
        "/search/?q=%C3%9F%E2%82%AC": "“ß€”",
        "/healthz": "ok",
    }.items():
        answer = client.get(path)
        assert (answer.status, is_whole(answer)) == (200, True)
        assert text in answer.text
    assert client.get("/api/products?q=oak").json()["count"] > 0
    assert client.socket is first


def test_pagination(client):
    """Every product of the API once, page by page."""
    seen = []
    pages = client.get("/api/products").json()["pages"]
    for number in range(1, pages + 1):
        page = client.get(f"/api/products?page={number}").json()
        seen += [product["sku"] for product in page["products"]]
    assert len(seen) == len(set(seen)) == PRODUCTS
    first = client.get("/category/kitchen/")
    second = client.get("/category/kitchen/" + first.links(r"\?page=2")[0])
    assert "Page 2 of" in second.text
    assert not set(first.links("/product/")) & set(second.links("/product/"))


def test_feedback(client, database):
    """A POST with its CSRF token stores a row."""
    count = "SELECT count(*) FROM orders_feedback WHERE message LIKE 'Zwölf%🧺'"
    before = database.execute(count).fetchone()[0]
    check_feedback(client)
    assert database.execute(count).fetchone()[0] == before + 1


def test_post_without_token(client):
    """403, and the connection goes on."""
    assert client.get("/feedback/").status == 200
    refused = client.post("/feedback/", name="Eve", message="spam", csrfmiddlewaretoken="")
    assert refused.status == 403
    assert client.get("/healthz").status == 200


def test_invalid_form(client):
    """The form again, with what is wrong."""
    client.get("/feedback/")
    answer = client.post("/feedback/", name="Ada", message="", email="nobody")
    assert answer.status == 200
    assert "This field is required" in answer.text
    assert "Enter a valid email address" in answer.text


def test_order(client, database):
    """An order takes from the stock, in one transaction."""
    url = some_product(client)
    slug = url.split("/")[2]
    query = "SELECT stock FROM catalogue_product WHERE slug = ?"
    before = database.execute(query, [slug]).fetchone()[0]
    client.get(url)
    sent = client.post(f"{url}order", quantity="1", email="ada@example.com")
    assert (sent.status, sent.location) == (302, url)
    assert "Thank you, this is order" in client.get(url).text
    assert database.execute(query, [slug]).fetchone()[0] == before - 1


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_upload(client, chunked):
    """What is uploaded is stored and comes back byte for byte."""
    client.get("/files/")
    assert "submitted file is empty" in client.upload("/files/", "e.bin", b"", chunked).text
    for size_bytes in 1, 100_000, 6_000_000:
        check_upload(client, size_bytes, chunked)


def test_download(client, shop_var):
    """A FileResponse, as GET and as HEAD."""
    answer = client.get("/files/price-list.txt")
    assert answer.status == 200
    assert answer.body == (shop_var / "price-list.txt").read_bytes()
    assert answer.headers["Content-Disposition"] == 'attachment; filename="price-list.txt"'
    assert is_whole(answer)
    head = client.request("HEAD", "/files/price-list.txt")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == answer.headers["Content-Length"]


def test_streaming(client):
    """A generator over a queryset, in chunks; the connection can be used again."""
    check_export(client)
    first = client.socket
    check_export(client)
    assert client.socket is first


def test_streaming_abandoned(shop, client):
    """A client that leaves in the middle of a stream disturbs nobody."""
    with shop.connect() as leaving:
        leaving.sendall(b"GET /export/products.csv HTTP/1.1\r\nHost: shop\r\n\r\n")
        assert leaving.recv(100).startswith(b"HTTP/1.1 200 ")
    check_export(client)


def test_async_view(client):
    """An async view under WSGI, with queries and waits at once; twice on the same thread."""
    check_availability(client)
    check_availability(client)


def test_admin(client):
    """Log in, list, search, edit, and the admin's own static files."""
    login = client.get("/admin/login/?next=/admin/")
    for address in login.links("/static/admin/.*(css|js)$"):
        assert client.get(address).status == 200
    wrong = client.post("/admin/login/", username="admin", password="wrong", next="/admin/")
    assert (wrong.status, "Please enter the correct" in wrong.text) == (200, True)
    right = client.post("/admin/login/", username="admin", password="admin", next="/admin/")
    assert (right.status, right.location) == (302, "/admin/")
    listed = client.get("/admin/catalogue/product/?q=SH-00042")
    assert (listed.status, "SH-00042" in listed.text) == (200, True)
    edit = client.get(listed.links(r"/admin/catalogue/product/\d+/change/")[0])
    assert (edit.status, 'name="sku"' in edit.text) == (200, True)


def test_admin_needs_login(client):
    """Nobody gets in unasked."""
    answer = client.get("/admin/catalogue/product/")
    assert (answer.status, answer.location) == (302, "/admin/login/?next=/admin/catalogue/product/")


def test_not_found(client):
    """The project's own 404 page."""
    answer = client.get("/no/such/page%20here")
    assert (answer.status, is_whole(answer)) == (404, True)
    assert "<code>/no/such/page here</code>" in answer.text
    assert client.get("/static/nothing.css").status == 404
    assert client.get("/media/../shop.sqlite3").status == 400


def test_failing_view(shop, client):
    """The visitor sees a plain 500; the log has method, path and traceback."""
    answer = client.get("/diagnostics/fail")
    assert (answer.status, is_whole(answer)) == (500, True)
    assert "Something broke" in answer.text
    assert "RuntimeError" not in answer.text
    assert shop.log_contains(r"ERROR GET Internal Server Error: /diagnostics/fail")
    assert shop.log_contains(r"Traceback \(most recent call last\)")
    assert shop.log_contains(r"RuntimeError: this page always fails")
    assert client.get("/healthz").status == 200


def test_head(client):
    """HEAD has the headers of GET and no body; the connection stays in step."""
    for path in ("/", "/export/products.csv", "/static/shop.css", "/no/such/page"):
        answer, head = client.get(path), client.request("HEAD", path)
        assert (head.status, head.body) == (answer.status, b"")
        assert head.headers["Content-Length"] == answer.headers["Content-Length"]
        assert head.headers["Content-Type"] == answer.headers["Content-Type"]


def test_not_modified(client):
    """304 by ETag and by date, without a body, and the connection stays in step."""
    home = client.get("/")
    again = client.get("/", {"If-None-Match": home.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    style = client.get("/static/shop.css")
    again = client.get("/static/shop.css", {"If-Modified-Since": style.headers["Last-Modified"]})
    assert (again.status, again.body) == (304, b"")
    assert client.get("/healthz").body == b"ok\n"


def test_method_not_allowed(client):
    """405 names what would be allowed."""
    answer = client.get(some_product(client) + "order")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


def test_flags(request, shop, client):
    """The application is told truly whether it has threads."""
    seen = client.get("/diagnostics/request").json()
    assert seen["multithread"] == ("2x4" in request.node.callspec.id)
    assert (seen["remote_addr"], seen["scheme"]) == ("127.0.0.1", "http")


def test_many_at_once(request, shop):
    """Requests that wait do so together, as many as there are threads."""
    together, ms = (8, 500) if "2x4" in request.node.callspec.id else (1, 100)
    is_seen = threading.Event()
    until = time.monotonic() + PATIENCE_S * SLOWNESS

    def visit(client: Client) -> None:
        while True:
            assert client.get(f"/diagnostics/wait?ms={ms}").status == 200
            if is_seen.is_set():
                return

    visitors = threading.Thread(target=at_once, args=(8, shop.url, visit))
    visitors.start()
    most = 0
    while visitors.is_alive():
        most = max(most, sum(len(worker["running"]) for worker in stats(shop)["workers"]))
        if most >= together or time.monotonic() > until:
            is_seen.set()
        time.sleep(0.01)
    assert most == together


def test_writers_at_once(shop, database):
    """Concurrent writers to SQLite wait for each other; none fails."""

    def write(client: Client) -> None:
        for _ in range(5):
            client.get("/feedback/")
            assert client.post("/feedback/", name="Bela", message="at once").status == 302

    count = "SELECT count(*) FROM orders_feedback WHERE message = 'at once'"
    before = database.execute(count).fetchone()[0]
    at_once(4, shop.url, write)
    assert database.execute(count).fetchone()[0] == before + 20
