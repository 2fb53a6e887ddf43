"""Small services of our own on 127.0.0.1, which remember what the applications tell them."""

from __future__ import annotations

import datetime
import gzip
import ipaddress
import json
import socketserver
import ssl
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

UNPACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}


class Listens:
    """A service on a port of 127.0.0.1, which threads of ours serve as long as the `with` lasts."""

    def __init__(self, talk: type[socketserver.BaseRequestHandler]) -> None:
        class Listener(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # the client is gone, or two have written at once

        self.server = Listener(("127.0.0.1", 0), talk)
        self.port: int = self.server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class Fake(Listens):
    """An HTTP service; `heard` counts what it was told."""

    def __init__(self) -> None:
        self.heard: Counter[str] = Counter()
        self.lock = threading.Lock()
        fake = self

        class Talk(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reply(*fake.get(self.path))

            def do_POST(self) -> None:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = b"".join(iter(self.chunk, b""))
                else:
                    body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                body = UNPACK.get(self.headers.get("Content-Encoding", ""), bytes)(body)
                self.reply(*fake.post(self.path, body))

            do_PUT = do_POST

            def chunk(self) -> bytes:
                piece = self.rfile.read(int(self.rfile.readline(), 16))
                self.rfile.readline()
                return piece

            def reply(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        super().__init__(Talk)
        self.url = f"http://127.0.0.1:{self.port}"

    def hear(self, what: str) -> None:
        """Counts."""
        with self.lock:
            self.heard[what] += 1

    def get(self, path: str) -> tuple[str, bytes]:
        """/echo/USER says the user."""
        return "text/plain", path.removeprefix("/echo/").encode()

    def post(self, path: str, body: bytes) -> tuple[str, bytes]:
        """What subclasses understand."""
        raise NotImplementedError


class Sentry(Fake):
    """Takes envelopes; hears the message of each event, and which the SDK says it gave up."""

    def __init__(self) -> None:
        super().__init__()
        self.given_up: Counter[str] = Counter()

    def post(self, path: str, body: bytes) -> tuple[str, bytes]:
        """Lines of JSON: a head, then a head and a payload for each item."""
        for line in body.splitlines():
            try:
                part = json.loads(line)
            except ValueError:
                continue
            if not isinstance(part, dict):
                continue
            if isinstance(part.get("message"), str):
                self.hear(part["message"])
            for given_up in part.get("discarded_events", []):
                self.given_up[given_up["reason"]] += given_up["quantity"]
        return "application/json", b"{}"


class Collector(Fake):
    """Takes spans by OTLP over HTTP; hears the attribute `user` of each."""

    def post(self, path: str, body: bytes) -> tuple[str, bytes]:
        """A message of protobuf."""
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as proto

        sent = proto.ExportTraceServiceRequest.FromString(body)
        for resource in sent.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    users = [a.value.string_value for a in span.attributes if a.key == "user"]
                    self.hear(users[0] if users else f"span {span.name}")
        return "application/x-protobuf", proto.ExportTraceServiceResponse().SerializeToString()


class Elastic(Fake):
    """The APM server of Elastic; hears the label `user` of each transaction."""

    def get(self, path: str) -> tuple[str, bytes]:
        """Its version, and no settings from afar."""
        return "application/json", b'{"version": "8.15.0"}' if path == "/" else b"{}"

    def post(self, path: str, body: bytes) -> tuple[str, bytes]:
        """Lines of JSON."""
        for line in body.splitlines():
            transaction = json.loads(line).get("transaction") if line else None
            if transaction:
                tags = transaction.get("context", {}).get("tags", {})
                self.hear(tags.get("user", "transaction without a user"))
        return "application/json", b"{}"


class Datadog(Fake):
    """The agent of Datadog; hears the tag `user` of each trace."""

    def get(self, path: str) -> tuple[str, bytes]:
        """What it understands."""
        return "application/json", b'{"endpoints": ["/v0.4/traces"], "version": "7.60.0"}'

    def post(self, path: str, body: bytes) -> tuple[str, bytes]:
        """Lists of spans, in msgpack."""
        import msgpack

        if path == "/v0.4/traces":
            for trace in msgpack.unpackb(body):
                users = [span["meta"]["user"] for span in trace if "user" in span.get("meta", {})]
                self.hear(users[0] if users else f"trace {trace[0]['name']}")
        return "application/json", b'{"rate_by_service": {}}'


class NewRelic(Fake):
    """The collector of New Relic, over TLS; hears the attribute `user` of each transaction."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.certificate = directory / "collector.pem"
        write_certificate(self.certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.runs = 0

    def post(self, path: str, body: bytes) -> tuple[str, bytes]:
        """One method of the agent's protocol, version 17."""
        method = parse_qs(urlsplit(path).query)["method"][0]
        said: Any = None
        if method == "preconnect":
            said = {"redirect_host": "127.0.0.1"}
        elif method == "connect":
            with self.lock:
                self.runs += 1
                said = {"agent_run_id": str(self.runs)}
        elif method == "analytic_event_data":
            for _, attributes, _ in json.loads(body)[2]:
                self.hear(attributes.get("user", "transaction without a user"))
        return "application/json", json.dumps({"return_value": said}).encode()


def write_certificate(path: Path) -> None:
    """A certificate for 127.0.0.1 that signs itself, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))


class Redis(Listens):
    """Speaks as much of Redis as ECHO needs, on each connection in order."""

    def __init__(self) -> None:
        class Talk(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while count := self.rfile.readline().strip():
                    parts = []
                    for _ in range(int(count[1:])):
                        size = int(self.rfile.readline()[1:])
                        parts.append(self.rfile.read(size + 2)[:-2])
                    said = parts[1] if parts[0].upper() == b"ECHO" else b""
                    answer = b"$%d\r\n%s\r\n" % (len(said), said) if said else b"+OK\r\n"
                    self.wfile.write(answer)

        super().__init__(Talk)


class Grpc:
    """A gRPC service that says what it was told."""

    def __init__(self) -> None:
        import grpc

        self.server = grpc.server(ThreadPoolExecutor(8))
        handlers = {"Say": grpc.unary_unary_rpc_method_handler(lambda request, context: request)}
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("echo.Echo", handlers),)
        )
        self.port: int = self.server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.stop(None)
