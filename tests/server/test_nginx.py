"""The shop behind a real nginx: TCP and unix socket, with and without upstream keep-alive."""

import http.client
from urllib.parse import urlsplit

import pytest

from shop_client import (
    Client,
    at_once,
    check_availability,
    check_export,
    check_feedback,
    check_home,
    check_upload,
    shop_options,
)

# A TLS site, as far as the application can tell.
HTTPS = """
location /diagnostics/ {
    proxy_pass http://app;
    proxy_set_header Host $http_host;
    proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto https;
}
"""
BINDS = {"tcp": ["127.0.0.1:0"], "unix": ["unix:app.sock"]}


@pytest.fixture(params=["tcp", "unix"])
def shop(request, server, shop_var):
    """The server, listening on TCP or on a unix socket."""
    return server(workers=2, threads=2, binds=BINDS[request.param], **shop_options(shop_var))


@pytest.fixture(params=[True, False], ids=["keepalive", "close"])
def url(request, shop, nginx) -> str:
    """The address of nginx."""
    return nginx(shop, keepalive=request.param)


@pytest.fixture
def client(url):
    """A browser at nginx."""
    with Client(url) as client:
        yield client


def test_pages(client):
    """Pages with their pictures and styles, a stream, an async view, a 404."""
    check_home(client)
    check_export(client)
    check_availability(client)
    assert client.get("/no/such/page").status == 404
    assert client.get("/category/kitchen/?page=2").status == 200


def test_forms(client):
    """CSRF works through nginx: cookies, tokens, redirects; so does the admin's login."""
    check_feedback(client)
    assert client.post("/feedback/", name="Eve", csrfmiddlewaretoken="").status == 403
    client.get("/admin/login/")
    logged_in = client.post("/admin/login/", username="admin", password="admin", next="/admin/")
    assert (logged_in.status, logged_in.location) == (302, "/admin/")
    assert client.get("/admin/orders/feedback/").status == 200


def test_upload(client):
    """Large uploads, with their length and in chunks, and back."""
    for chunked in False, True:
        check_upload(client, 3_000_000, chunked)


def test_head_and_not_modified(client):
    """Answers without a body do not put the upstream connection out of step."""
    page = client.get("/")
    for _ in range(10):
        head = client.request("HEAD", "/")
        assert (head.status, head.body) == (200, b"")
        same = client.get("/", {"If-None-Match": page.headers["ETag"]})
        assert (same.status, same.body) == (304, b"")
        assert client.get("/healthz").body == b"ok\n"


def test_many_visitors(url):
    """Twelve visitors at once; each gets the pages it asked for."""

    def visit(client: Client) -> None:
        for number in range(1, 6):
            assert client.get(f"/api/products?page={number}").json()["page"] == number
            assert client.get(f"/diagnostics/wait?ms={number}").json() == {"waited_ms": number}

    at_once(12, url, visit)


def test_client_address(client):
    """The address is that of the visitor, and a forged one does not count."""
    seen = client.get("/diagnostics/request").json()
    assert seen["remote_addr"] == "127.0.0.1"
    assert (seen["scheme"], seen["host"]) == ("http", urlsplit(client.base).netloc)
    for sent, believed in {
        "203.0.113.7": "203.0.113.7",
        "198.51.100.1, 203.0.113.7": "203.0.113.7",
        "2001:db8::7": "2001:db8::7",
    }.items():
        seen = client.get("/diagnostics/request", {"X-Forwarded-For": sent}).json()
        assert seen["remote_addr"] == believed


@pytest.mark.parametrize("keepalive", [True, False], ids=["keepalive", "close"])
def test_https(shop, nginx, keepalive):
    """The scheme is nginx's, in every link that Django makes."""
    client = Client(nginx(shop, keepalive=keepalive, extra=HTTPS))
    seen = client.get("/diagnostics/request").json()
    client.close()
    assert seen["scheme"] == "https"
    assert seen["url"] == client.base.replace("http:", "https:") + "/diagnostics/request"


def test_unix_peer_without_headers(server, shop_var):
    """A unix peer that says nothing is local; REMOTE_ADDR is never empty."""
    shop = server(binds=BINDS["unix"], **shop_options(shop_var))
    assert '"remote_addr": "127.0.0.1"' in shop.get("/diagnostics/request").text


def test_untrusted_peer(server, shop_var):
    """Whoever is not a trusted proxy may claim what he likes."""
    shop = server(forwarded_allow_ips="192.0.2.1", **shop_options(shop_var))
    client = Client(shop.url)
    headers = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    seen = client.get("/diagnostics/request", headers).json()
    client.close()
    assert (seen["remote_addr"], seen["scheme"]) == ("127.0.0.1", "http")


def test_visitor_leaves(url):
    """Visitors who leave in the middle of a response disturb nobody."""
    parts = urlsplit(url)
    for _ in range(5):
        leaving = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
        leaving.request("GET", "/export/products.csv")
        response = leaving.getresponse()
        assert response.read(10) == b"sku,name,c"
        response.close()
        leaving.close()
    client = Client(url)
    check_export(client)
    client.close()
