"""Attacks through a real HAProxy and a real nginx: what they send on is what the application sees.

Between the proxy and the server stands a relay that remembers what the proxy sent. The reference
model says which requests that is; the application must have seen these, all of them and no other.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import harness
import reference_model
from harness import REQUESTS, SLOWNESS, Server, wait_for

Start = Callable[..., Server]
Seen = Counter[tuple[str, str, int, str]]

ATTACKS = [path.read_bytes() for path in sorted(REQUESTS.glob("*/*.http"))]
SILENCE_S = 0.4

HAPROXY_CONF = """\
defaults
    mode {mode}
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    timeout http-request 20s
    {forward}
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    http-reuse {reuse}
    server app {upstream} {extra}
"""


class Relay:
    """Passes connections on and keeps what came from the side of the client."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.streams: list[bytearray] = []
        self.ends: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address: tuple[str, int] = self.listener.getsockname()
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    def accept(self) -> None:
        """Until the listener is closed."""
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            stream = bytearray()
            self.streams.append(stream)
            self.ends += [client, server]
            for pair in ((client, server, stream), (server, client, None)):
                self.threads.append(threading.Thread(target=copy, args=pair, daemon=True))
                self.threads[-1].start()

    def close(self) -> None:
        """End all connections."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join()  # nothing is opened any more
        for end in self.ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join()
        for end in (self.listener, *self.ends):
            end.close()


def copy(source: socket.socket, sink: socket.socket, record: bytearray | None) -> None:
    """One direction of a connection, to its end."""
    try:
        while data := source.recv(65536):
            if record is not None:
                record += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def start_haproxy(directory: Path, **values: object) -> subprocess.Popen[bytes]:
    """Start it in the foreground and wait until it accepts."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    assert program, "HAProxy is missing; make deps installs it"
    conf = directory / "haproxy.cfg"
    forward = "option forwardfor" if values["mode"] == "http" else ""
    conf.write_text(HAPROXY_CONF.format(forward=forward, **values))
    with (directory / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([program, "-db", "-f", conf], stdout=log, stderr=log)
    try:
        wait_for(lambda: harness.can_connect(("127.0.0.1", values["port"])), what="HAProxy")
    except AssertionError:
        process.kill()
        process.wait()
        raise
    return process


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Put HAProxy in front of an address: haproxy(("127.0.0.1", 80)) returns its port."""
    with ExitStack() as stack:

        def make(upstream: tuple[str, int], **values: str) -> int:
            port = harness.free_port()
            values = {"mode": "http", "reuse": "never", "extra": ""} | values
            where = "{}:{}".format(*upstream)
            process = start_haproxy(tmp_path, port=port, upstream=where, **values)
            stack.callback(process.wait, 10)
            stack.callback(process.kill)
            return port

        yield make


class Upstream:
    """What the fixture of nginx wants to know of a server."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference model with the server's defaults."""
    for name, value in (("LINE_BYTES", 8190), ("FIELD_BYTES", 8190), ("HEAD_BYTES", 65536)):
        monkeypatch.setattr(reference_model, name, value)
    monkeypatch.setattr(reference_model, "FIELDS", 100)
    monkeypatch.setattr(reference_model, "BODY_BYTES", 1 << 30)


def attack(port: int, data: bytes, silence_s: float = SILENCE_S) -> bytes:
    """Send it and read until nothing more comes."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(silence_s * SLOWNESS)
        try:
            client.sendall(data)
        except OSError:
            pass
        return harness.read_all(client)


def sent_by_proxy(relay: Relay) -> Seen:
    """The requests on the wire, by the model. It must be sure of each."""
    seen: Seen = Counter()
    for stream in relay.streams:
        for request in reference_model.read_all(bytes(stream)).requests:
            digest = hashlib.sha1(request.body).hexdigest()
            target = request.target.decode("latin-1")
            seen[request.method.decode(), target, len(request.body), digest] += 1
    return seen


def seen_by_application(server: Server) -> Seen:
    """What it said it saw."""
    found = re.findall(r"^event: saw (\S+) (\S+) (\d+) (\w+)$", server.log, re.MULTILINE)
    return Counter(
        (method, target, int(length), digest) for method, target, length, digest in found
    )


@pytest.mark.parametrize("reuse", [False, True], ids=["close", "reuse"])
@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_attacks_through_a_proxy(
    server: Start,
    haproxy: Callable[..., int],
    nginx: Callable[..., str],
    limits: None,
    kind: str,
    reuse: bool,
) -> None:
    """All raw requests of the other tests, sixteen at once, with good ones between."""
    s = server("witness:application", threads=4, forwarded_allow_ips="127.0.0.1")
    warmed = seen_by_application(s)
    relay = Relay(("127.0.0.1", s.port))
    if kind == "haproxy":
        port = haproxy(relay.address, reuse="always" if reuse else "never")
    else:
        # Whom nginx leaves because its client has left, the server does not run.
        patient = "proxy_ignore_client_abort on;"
        url = nginx(Upstream(relay.address), keepalive=reuse, extra=patient)  # type: ignore[arg-type]
        port = int(url.rpartition(":")[2])
    good = b"GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda data: attack(port, data), ATTACKS))
        for answer in threads.map(lambda data: attack(port, data, 10), [good] * 100):
            assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"127.0.0.1 /good")
    with suppress(AssertionError):  # the difference says more
        wait_for(lambda: seen_by_application(s) - warmed == sent_by_proxy(relay))
    relay.close()
    sent, seen = sent_by_proxy(relay), seen_by_application(s) - warmed
    assert seen == sent, f"only sent: {sent - seen}\nonly seen: {seen - sent}"
    assert not any("smuggled" in target for _, target, _, _ in seen)


@pytest.mark.parametrize("extra", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("version", ["auto", "right"])
def test_proxy_protocol_of_haproxy(
    server: Start, haproxy: Callable[..., int], version: str, extra: str
) -> None:
    """The client's address arrives, not the balancer's, and is not trusted to speak of others."""
    right = "v2" if extra.endswith("v2") else "v1"
    s = server("witness:application", proxy_protocol=right if version == "right" else "auto")
    port = haproxy(("127.0.0.1", s.port), extra=extra)
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0)) as c:
            c.settimeout(5 * SLOWNESS)
            c.sendall(
                b"GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n"
            )
            assert harness.read_all(c).endswith(b"127.0.0.2 /x")


def test_proxy_protocol_in_tcp_mode(server: Start, haproxy: Callable[..., int]) -> None:
    """The same when the balancer only passes bytes on, which is what the protocol is for."""
    s = server("witness:application", proxy_protocol="v2", threads=2)
    port = haproxy(("127.0.0.1", s.port), extra="send-proxy-v2", mode="tcp")
    with socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.3", 0)) as c:
        c.settimeout(5 * SLOWNESS)
        with c.makefile("rb") as stream:
            for _ in range(3):
                c.sendall(b"GET /y HTTP/1.1\r\nHost: a\r\n\r\n")
                lines = iter(stream.readline, b"\r\n")
                length = next(
                    int(line[16:]) for line in lines if line.startswith(b"Content-Length:")
                )
                list(lines)
                assert stream.read(length) == b"127.0.0.3 /y"
