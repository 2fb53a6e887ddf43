"""Hosts in network namespaces, a HAProxy and an nginx in front of them, and clients of these.

The namespace of the front is that of the test's own thread, so that all that the test starts is in
it; a host is another namespace, joined to it by a bridge. Nothing of it is seen outside.
"""

from __future__ import annotations

import csv
import ctypes
import http.client
import itertools
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM

from harness import PATIENCE_S, SLOWNESS, Server, can_connect, processes, wait_for

COUNT = 3
HAPROXY, NGINX = ("127.0.0.1", 8080), ("127.0.0.1", 8081)
CLONE_NEWNET = 0x40000000

HAPROXY_CONF = """\
global
    stats socket {dir}/haproxy.sock level admin
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout check 10s
    {retries}
frontend front
    bind 127.0.0.1:8080
    default_backend hosts
backend hosts
    balance roundrobin
    option httpchk GET /readyz
    default-server check port 9100 inter 100ms rise 1 fall 1
    {servers}
"""
REPEATS = """retries 3
    option redispatch 1
    retry-on conn-failure empty-response"""
NGINX_CONF = """\
daemon off;
{user}
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/nginx.log notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    scgi_temp_path {dir}/scgi;
    uwsgi_temp_path {dir}/uwsgi;
    upstream hosts {{
        {servers}
        keepalive 8;
    }}
    server {{
        listen 127.0.0.1:8081;
        location / {{
            proxy_pass http://hosts;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_connect_timeout 1s;
            proxy_next_upstream {retries};
        }}
    }}
}}
"""


class Impossible(Exception):
    """This machine lets nobody make such namespaces."""


def ip(*words: str) -> None:
    """One command of ip(8)."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise Impossible(f"ip {' '.join(words)}: {done.stderr.strip()}")


def enter(namespace: int) -> None:
    """Move this thread, and what it starts from now on, to a network namespace."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
        raise Impossible(f"setns: {os.strerror(ctypes.get_errno())}")


def get(
    address: tuple[str, int],
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    timeout: float = PATIENCE_S,
) -> str:
    """One request on a connection of its own; raises unless it is answered with 200."""
    client = http.client.HTTPConnection(*address, timeout=timeout * SLOWNESS)
    try:
        client.request(method, path, body)
        response = client.getresponse()
        text = response.read().decode()
    finally:
        client.close()
    if response.status != 200:
        raise ConnectionError(f"{response.status}: {text}")
    return text


class Host:
    """One machine: its namespace, and the server that runs there now."""

    def __init__(self, number: int, start: Callable[..., Server]) -> None:
        self.name = f"host{number}"
        self.namespace = f"myserver-{os.getpid()}-{self.name}"
        self.address = f"10.93.0.{number}"
        self.server: Server | None = None
        self._start = start

    def start(self, version: int = 1) -> Server:
        """Start this version; returns when it serves."""
        s = self._start(
            "fleet",
            start=False,
            threads=2,
            binds=["0.0.0.0:8000"],
            control="0.0.0.0:9100",
            shutdown_delay="10m",
            env={"HOST": self.name, "VERSION": str(version)},
            expect_deaths=True,
        )
        s.command = ["nsenter", f"--net=/run/netns/{self.namespace}", *s.command]
        self.server = s.start()
        return s

    def is_ready(self) -> bool:
        """What it says itself."""
        try:
            return get((self.address, 9100), "/readyz", timeout=1) == "ready\n"
        except (OSError, http.client.HTTPException):
            return False

    def saturation(self) -> float:
        """The metric by which it is scaled."""
        for line in get((self.address, 9100), "/metrics").splitlines():
            if line.startswith("myserver_saturation_ratio "):
                return float(line.split()[1])
        raise AssertionError("there is no such metric")

    def die(self) -> None:
        """All its processes at once; then nothing answers there, not even with a refusal."""
        assert self.server
        self.server.kill()
        ip("-n", self.namespace, "link", "set", "eth0", "down")
        self.server = None


class Load:
    """Clients that ask without a pause; each request has a number."""

    def __init__(self, fleet: Fleet, path: str, method: str) -> None:
        self.fleet, self.path, self.method = fleet, path, method
        self.over = threading.Event()
        self.answers: list[str] = []
        self.lost: dict[int, str] = {}

    def run(self, address: tuple[str, int]) -> None:
        """Ask until it is over."""
        body = b"x" * 1000 if self.method == "POST" else None
        while not self.over.is_set():
            number = next(self.fleet.numbers)
            try:
                text = get(address, f"{self.path}?{number}", self.method, body)
                if text.split()[2:] != [str(number), str(len(body or b""))]:
                    raise ConnectionError(f"not the answer: {text}")
                self.answers.append(text)
            except (OSError, http.client.HTTPException) as error:
                self.lost[number] = repr(error)

    def wait_for_more(self, count: int) -> None:
        """Until so many more are answered."""
        wanted = len(self.answers) + count
        wait_for(lambda: len(self.answers) >= wanted, what="more answers")


class Fleet:
    """The hosts and what stands in front of them."""

    def __init__(self, directory: Path, hosts: list[Host], retries: bool) -> None:
        self.directory, self.hosts, self.retries = directory, hosts, retries
        self.numbers = itertools.count(1)
        self.upstream: list[str] = []  # what nginx sends to
        self.nginx: subprocess.Popen[bytes] | None = None
        self.over = threading.Event()

    # ---- HAProxy asks the hosts itself

    def haproxy_sees(self) -> dict[str, bool]:
        """Which hosts it takes for ready."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.directory / "haproxy.sock"))
            s.sendall(b"show stat\n")
            text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
        rows = csv.DictReader(text.lstrip("# ").splitlines())
        return {
            row["svname"]: row["status"].startswith("UP")
            for row in rows
            if row["pxname"] == "hosts" and row["svname"] != "BACKEND"
        }

    # ---- nginx is told, as the controller of an ingress does

    def write_nginx(self, names: list[str]) -> None:
        """The configuration with these hosts."""
        servers = [f"server {host.address}:8000;" for host in self.hosts if host.name in names]
        (self.directory / "nginx.conf").write_text(
            NGINX_CONF.format(
                dir=self.directory,
                user="user root;" if os.geteuid() == 0 else "",
                servers="\n        ".join(servers),
                retries="error timeout" if self.retries else "off",
            )
        )

    def control_nginx(self) -> None:
        """Look which hosts are ready, and tell nginx when that has changed."""
        while not self.over.wait(0.05):
            names = [host.name for host in self.hosts if host.is_ready()]
            if names and names != self.upstream:
                self.write_nginx(names)
                old = self.nginx_workers()
                assert self.nginx
                self.nginx.send_signal(SIGHUP)
                # Those of before send to the hosts of before whatever they have accepted.
                wait_for(lambda old=old: not old & self.nginx_workers(), what="their end")
                self.upstream = names

    def nginx_workers(self) -> set[int]:
        """Its processes that have connections."""
        assert self.nginx
        return {p.pid for p in processes() if p.parent == self.nginx.pid}

    # ---- what is done with hosts

    def wait_until_seen(self, host: Host, ready: bool) -> None:
        """Until both know whether to send to it."""
        wait_for(
            lambda: (
                self.haproxy_sees()[host.name] == ready and (host.name in self.upstream) == ready
            ),
            what=f"{host.name} to be {'seen' if ready else 'left out'}",
        )

    def start(self, host: Host, version: int = 1) -> None:
        """Start a server there; returns when requests come to it."""
        host.start(version)
        self.wait_until_seen(host, True)

    def stop(self, host: Host) -> None:
        """TERM; when everybody has turned away, the second one ends shutdown-delay."""
        assert host.server
        host.server.signal(SIGTERM)
        self.wait_until_seen(host, False)
        host.server.signal(SIGTERM)
        assert host.server.wait() == 0
        host.server = None

    def stop_all(self) -> None:
        """Without a delay."""
        for host in self.hosts:
            if host.server:
                host.server.stop(SIGINT)

    @contextmanager
    def load(
        self, path: str = "/", method: str = "GET", clients: int = 3, nginx: bool = True
    ) -> Iterator[Load]:
        """So many clients of each of the two."""
        load = Load(self, path, method)
        doors = [HAPROXY, NGINX] if nginx else [HAPROXY]
        threads = [
            threading.Thread(target=load.run, args=(door,))
            for door in doors
            for _ in range(clients)
        ]
        for thread in threads:
            thread.start()
        try:
            yield load
        finally:
            load.over.set()
            for thread in threads:
                thread.join()


def join_hosts(stack: ExitStack, hosts: list[Host]) -> None:
    """Make the namespaces and the bridge, and move this thread to that of the front."""
    front = f"myserver-{os.getpid()}-front"
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    stack.callback(os.close, back)
    for name in (front, *(host.namespace for host in hosts)):
        ip("netns", "add", name)
        stack.callback(subprocess.run, ["ip", "netns", "delete", name])
    ip("-n", front, "link", "set", "lo", "up")
    ip("-n", front, "link", "add", "bridge", "type", "bridge")
    ip("-n", front, "address", "add", "10.93.0.254/24", "dev", "bridge")
    ip("-n", front, "link", "set", "bridge", "up")
    for host in hosts:
        end = ["type", "veth", "peer", "name", "eth0", "netns", host.namespace]
        ip("-n", front, "link", "add", host.name, *end)
        ip("-n", front, "link", "set", host.name, "master", "bridge", "up")
        ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
        ip("-n", host.namespace, "link", "set", "eth0", "up")
        ip("-n", host.namespace, "link", "set", "lo", "up")
    namespace = os.open(f"/run/netns/{front}", os.O_RDONLY)
    stack.callback(enter, back)
    try:
        enter(namespace)
    finally:
        os.close(namespace)


def start_proxies(stack: ExitStack, fleet: Fleet) -> None:
    """HAProxy, nginx, and what tells nginx of the hosts."""
    directory = fleet.directory
    lines = [f"server {host.name} {host.address}:8000" for host in fleet.hosts]
    (directory / "haproxy.cfg").write_text(
        HAPROXY_CONF.format(
            dir=directory,
            servers="\n    ".join(lines),
            retries=REPEATS if fleet.retries else "retries 0",
        )
    )
    fleet.upstream = [fleet.hosts[0].name]
    fleet.write_nginx(fleet.upstream)
    path = os.environ["PATH"] + ":/usr/sbin"
    commands = [["haproxy", "-db", "-q", "-f", str(directory / "haproxy.cfg")]]
    commands += [["nginx", "-c", str(directory / "nginx.conf"), "-e", str(directory / "nginx.log")]]
    for command in commands:
        program = shutil.which(command[0], path=path)
        if not program:
            raise Impossible(f"{command[0]} is missing; make deps installs it")
        process = subprocess.Popen([program, *command[1:]], stdin=subprocess.DEVNULL)
        stack.callback(process.wait, PATIENCE_S * SLOWNESS)
        stack.callback(process.terminate)
        fleet.nginx = process
    for address in HAPROXY, NGINX:
        wait_for(lambda address=address: can_connect(address), what="a proxy")
    controller = threading.Thread(target=fleet.control_nginx)
    controller.start()
    stack.callback(controller.join)
    stack.callback(fleet.over.set)


@contextmanager
def fleet_of(directory: Path, start: Callable[..., Server], retries: bool) -> Iterator[Fleet]:
    """Three hosts without servers, and the proxies, which repeat on another host what fails before it
    is answered if they have `retries`. Impossible: the reason why not."""
    if os.geteuid() != 0:
        raise Impossible("only root can make network namespaces")
    for program in "ip", "nsenter":
        if not shutil.which(program):
            raise Impossible(f"{program} is missing")
    fleet = Fleet(directory, [Host(number, start) for number in range(1, COUNT + 1)], retries)
    with ExitStack() as stack:
        join_hosts(stack, fleet.hosts)
        start_proxies(stack, fleet)
        stack.callback(fleet.stop_all)
        yield fleet


@contextmanager
def stream_from(address: tuple[str, int], number: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """A stream that has begun: the name of its host, and what waits for the rest of it."""
    client = http.client.HTTPConnection(*address, timeout=PATIENCE_S * SLOWNESS)
    try:
        client.request("GET", f"/stream?{number}")
        response = client.getresponse()
        yield response.read1(100).decode().split()[0], response.read
    finally:
        with suppress(OSError):
            client.close()
