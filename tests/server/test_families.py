"""[::] listens for both families, unless another address needs the port for IPv4."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from harness import Server, can_connect, free_port, wait_for, whole_lines
from wire import request

Start = Callable[..., Server]


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


def seen(address: str, port: int) -> dict[str, Any]:
    """The environ of a request to this address."""
    with socket.create_connection((address, port), 10) as s, s.makefile("rb") as stream:
        s.sendall(request("GET", "/environ HTTP/1.0", None))
        return json.loads(stream.read().partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("host", ["[::]", "[::0]", "[0:0:0:0:0:0:0:0]"])
def test_both_families(server: Start, host: str) -> None:
    """An IPv4 client has its own address, in environ, in the log, and where it is trusted."""
    s = server("cases", binds=[f"{host}:0"], access_logfile="access.log")
    for address in ("127.0.0.1", "::1"):
        environ = seen(address, s.port)
        assert environ["REMOTE_ADDR"][1] == address
        assert environ["SERVER_PORT"][1] == str(s.port)
    log = s.dir / "access.log"
    lines = wait_for(lambda: found if len(found := whole_lines(log.read_text())) == 2 else None)
    assert [line.split()[0] for line in lines] == ["127.0.0.1", "::1"]


@pytest.mark.parametrize("other", ["127.0.0.1", "0.0.0.0", "", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_port_that_is_needed_for_ipv4(server: Start, other: str, order: int) -> None:
    """Each address gets its own clients, whichever is named first."""
    port = free_port()
    server("cases", binds=[f"[::]:{port}", f"{other}:{port}"][::order])
    assert seen("::1", port)["SERVER_NAME"][1] == "::"
    assert seen("127.0.0.1", port)["SERVER_NAME"][1] != "::"


@pytest.mark.parametrize("option", ["control", "stats"])
def test_a_port_that_is_needed_for_observation(server: Start, option: str) -> None:
    """It may have the same number."""
    port = free_port()
    s = server("cases", binds=[f"[::]:{port}"], **{option: f"127.0.0.1:{port}"})
    assert seen("::1", port)["SERVER_NAME"][1] == "::"
    assert s.log_contains(f"{option} on 127.0.0.1:{port}")
    port = free_port()
    s = server("cases", **{option: f"[::]:{port}"})
    assert can_connect(("127.0.0.1", port))


def test_an_inherited_socket() -> None:
    """fd://N may have the port."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as inherited:
        binds = [f"[::]:{port}", f"fd://{inherited.fileno()}"]
        s = Server("cases", binds=binds)
        try:
            s.start(fds=[inherited.fileno()])
            assert seen("::1", port)["SERVER_NAME"][1] == "::"
            assert seen("127.0.0.1", port)["SERVER_NAME"][1] == "127.0.0.1"
            assert s.stop() == 0
        finally:
            s.close()


def test_trust_of_an_ipv4_proxy(server: Start) -> None:
    """forwarded-allow-ips knows it by its own address."""
    s = server("cases", binds=["[::]:0"], forwarded_allow_ips="127.0.0.1")
    address = ("127.0.0.1", s.port)
    with socket.create_connection(address, 10) as client, client.makefile("rb") as stream:
        client.sendall(request("GET", "/environ HTTP/1.0", None, "X-Forwarded-For: 192.0.2.1"))
        assert b'"REMOTE_ADDR": ["str", "192.0.2.1"]' in stream.read()
