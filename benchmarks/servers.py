"""The servers that are compared, each with the production settings of its own documentation.

A class says how to start one server for an application, a number of processes and threads, and an
address; what it cannot do it says in `unsupported`. All get the same environment.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from measure import TOOLS, processes_of
from model import APPS, HERE, App, Case

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 0.5  # nothing is being served then
KEEP_ALIVE_S = "75"  # as long as nginx keeps them


class Unsupported(Exception):
    """The server cannot do what the case asks."""


class StartFailed(Exception):
    """The server is not ready; the message has the end of its log."""


class UnixConnection(http.client.HTTPConnection):
    """http.client over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """To the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Server:
    """One server; subclasses give `name`, `command`, and what differs."""

    name = ""
    note = ""  # for the table
    unix_possible = True
    asgi = False
    protocol = "http"  # or "uwsgi": then only nginx can ask it
    most_threads = 100_000
    most_processes = 1000

    def __init__(self, case: Case, venv: Path) -> None:
        self.app: App = case.app
        self.processes = case.processes
        self.threads = case.threads
        self.venv = venv
        self.children: list[subprocess.Popen[bytes]] = []
        self.unix = case.unix
        self.proxied = case.proxied
        self.case_options = case.options
        self.reject(case)
        self.dir = Path(tempfile.mkdtemp(prefix=f"bench-{self.name}-"))
        self.port = free_port()
        self.socket_path = str(self.dir / "server.sock")
        self.log: IO[bytes] = (self.dir / "log").open("wb")

    def reject(self, case: Case) -> None:
        """Raises Unsupported when the case is not for this server."""
        if case.unix and not self.unix_possible:
            raise Unsupported("no unix sockets")
        if self.protocol != "http" and not case.proxied:
            raise Unsupported("speaks to nginx only")
        if self.asgi and not case.app.asgi:
            raise Unsupported("the application is WSGI only")
        if case.threads > self.most_threads:
            raise Unsupported(f"at most {self.most_threads} thread a process")
        if case.processes > self.most_processes:
            raise Unsupported(f"at most {self.most_processes} process")

    def command(self) -> list[str]:
        """What to run."""
        raise NotImplementedError

    def bin(self, name: str) -> str:
        """A program of the virtualenv."""
        path = self.venv / "bin" / name
        if not path.exists():
            raise StartFailed(f"{name} is not installed")
        return str(path)

    @property
    def where(self) -> str:
        """The address for load generators."""
        return f"unix:{self.socket_path}" if self.unix else f"127.0.0.1:{self.port}"

    @property
    def application(self) -> str:
        """`module:callable` of the kind that this server takes."""
        return self.app.asgi or "" if self.asgi else self.app.wsgi

    def environment(self) -> dict[str, str]:
        """The environment of the server, and so of the application."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return kept | {"PYTHONPATH": str(self.app.directory)} | self.app.env

    def spawn(self, command: list[str]) -> None:
        """Starts one of the server's processes."""
        self.children.append(
            subprocess.Popen(
                command,
                cwd=self.app.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                start_new_session=True,
            )
        )

    def reload(self) -> None:
        """Tells it to load the application anew; does not wait."""
        self.children[0].send_signal(signal.SIGHUP)

    def launch(self) -> None:
        """Starts; does not wait."""
        self.spawn(self.command())

    def start(self, path: str) -> None:
        """Starts, and waits until a real request is answered."""
        self.launch()
        self.wait_ready(path)

    def ended(self) -> int | None:
        """The status of a process that has ended; None while all run."""
        return next((child.returncode for child in self.children if child.poll() is not None), None)

    def wait_ready(self, path: str, pause_s: float = 0.05) -> None:
        """Until `path` answers with anything but an error of the server."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            if (status := self.ended()) is not None:
                raise StartFailed(f"ended with {status}: {self.log_end()}")
            try:
                if self.get(path)[0] < 500:
                    return
                reason = "only errors"
            except (OSError, http.client.HTTPException) as error:
                reason = str(error)
            if time.monotonic() > deadline:
                raise StartFailed(f"not ready ({reason}): {self.log_end()}")
            time.sleep(pause_s)

    def get(self, path: str, timeout: float = 10) -> tuple[int, bytes]:
        """Status and body."""
        connection: http.client.HTTPConnection
        if self.unix:
            connection = UnixConnection(self.socket_path, timeout)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers={"Connection": "close", "Host": "localhost"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def log_end(self) -> str:
        """The last lines the server wrote."""
        self.log.flush()
        lines = (self.dir / "log").read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:])[-400:]

    @property
    def roots(self) -> list[int]:
        """The processes that were started; all others descend from them."""
        return [child.pid for child in self.children]

    @property
    def proxy_roots(self) -> list[int]:
        """Those of nginx, where it counts apart."""
        return []

    def stop(self) -> None:
        """TERM, then KILL for what is left after a moment."""
        ours = processes_of(self.roots)
        for child in self.children:
            child.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for child in self.children:
            try:
                child.wait(max(0.01, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                ours += processes_of([child.pid])
                child.kill()
                child.wait()
        for pid in set(ours) - set(self.roots):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Myserver(Server):
    """Ours: the defaults."""

    name = "myserver"
    binary = Path()  # set by run.py
    options: Sequence[str] = ()  # more of them; {dir} is the server's directory

    def command(self) -> list[str]:
        """Options as in the README."""
        scheme = "uwsgi:" if self.protocol == "uwsgi" else ""
        return [
            str(self.binary),
            f"--workers={self.processes}",
            f"--threads={self.threads}",
            f"--bind={scheme}{self.where}",
            f"--virtualenv={self.venv}",
            "--log-level=warning",
            *([f"--static=/static={self.app.static}"] if self.app.static else []),
            *(option.format(dir=self.dir) for option in self.options),
            *self.case_options,
            self.app.wsgi,
        ]


class MyserverUwsgi(Myserver):
    """Ours where nginx goes on with uwsgi_pass."""

    name = "myserver-uwsgi"
    note = "uwsgi protocol"
    protocol = "uwsgi"


class MyserverWatched(Myserver):
    """Ours with the listener that answers what the account has seen: it can be profiled."""

    name = "myserver-watched"
    note = "control"
    options: Sequence[str] = ("--control=unix:{dir}/control.sock",)


class MyserverBare(MyserverWatched):
    """The same without anything that always looks at the requests."""

    name = "myserver-bare"
    note = "control; nothing observed"
    options = (*MyserverWatched.options, "--observe=false", "--profile-rate=0")


class MyserverPrewarm(Myserver):
    """Ours with the pages of a project asked for before the fork."""

    name = "myserver-prewarm"
    note = "prewarm"
    options = ("--prewarm=/", "--prewarm=/page/")


class Ceiling(Server):
    """Our loop and parser without Python; knows one answer only."""

    name = "ceiling"
    note = "our loop and parser, no Python"

    def command(self) -> list[str]:
        """See load/ceiling.c."""
        where = self.socket_path if self.unix else str(self.port)
        return [str(TOOLS / "ceiling"), where, str(self.processes)]


class Gunicorn(Server):
    """Its deployment page: workers, behind a proxy; no access log is the default."""

    worker = ""

    def command(self) -> list[str]:
        """--worker-tmp-dir: its FAQ advises a directory in memory for the heartbeat."""
        command = [self.bin("gunicorn"), "--worker-class", self.worker, "--bind", self.where]
        command += ["--workers", str(self.processes), "--keep-alive", KEEP_ALIVE_S]
        command += ["--worker-tmp-dir", "/dev/shm", "--log-level", "warning"]
        return [*command, *self.more(), self.application]

    def more(self) -> list[str]:
        """Options of the kind of worker."""
        return []


class GunicornSync(Gunicorn):
    """The default worker; closes every connection."""

    name = "gunicorn-sync"
    worker = "sync"
    most_threads = 1


class GunicornGthread(Gunicorn):
    """Threads and keep-alive."""

    name = "gunicorn-gthread"
    worker = "gthread"

    def more(self) -> list[str]:
        """As many threads as asked for."""
        return ["--threads", str(self.threads)]


class GunicornPreload(GunicornSync):
    """Loads the application once, before it forks; code is not loaded anew by a HUP then."""

    name = "gunicorn-preload"
    note = "--preload"

    def more(self) -> list[str]:
        """See its documentation of settings."""
        return ["--preload"]


class GunicornGevent(Gunicorn):
    """Greenlets: threads are not bounded by the case."""

    name = "gunicorn-gevent"
    worker = "gevent"

    def more(self) -> list[str]:
        """Enough for the largest load."""
        return ["--worker-connections", "4000"]


class GunicornUvicorn(Gunicorn):
    """ASGI under gunicorn's supervision."""

    name = "gunicorn-uvicorn"
    worker = "uvicorn_worker.UvicornWorker"
    asgi = True


class Uwsgi(Server):
    """`Things to know` of its documentation, and HTTP/1.1 with keep-alive."""

    name = "uwsgi"

    def common(self) -> list[str]:
        """Everything but the socket."""
        with open("/proc/sys/net/core/somaxconn") as limit:
            backlog = min(1024, int(limit.read()))
        options = ["--master", "--strict", "--need-app", "--single-interpreter", "--vacuum"]
        options += ["--die-on-term", "--enable-threads", "--disable-logging", "--thunder-lock"]
        options += [f"--listen={backlog}", f"--processes={self.processes}", f"--home={self.venv}"]
        options += ["--buffer-size=8192", f"--module={self.app.wsgi}", *self.concurrency()]
        return [self.bin("uwsgi"), *options]

    def concurrency(self) -> list[str]:
        """Threads, where there are several."""
        return [f"--threads={self.threads}"] if self.threads > 1 else []

    def command(self) -> list[str]:
        """http11-socket: no router process between, connections are kept."""
        address = self.socket_path if self.unix else f"127.0.0.1:{self.port}"
        return [*self.common(), f"--http11-socket={address}"]


class UwsgiGevent(Uwsgi):
    """Greenlets."""

    name = "uwsgi-gevent"

    def concurrency(self) -> list[str]:
        """Patched before the application is loaded: it may make locks then."""
        return ["--gevent=4000", "--gevent-early-monkey-patch"]

    def common(self) -> list[str]:
        """gevent and thunder-lock exclude each other."""
        return [option for option in super().common() if option != "--thunder-lock"]

    def command(self) -> list[str]:
        """http11-socket never answers a second request under gevent: so it closes, and says so."""
        address = self.socket_path if self.unix else f"127.0.0.1:{self.port}"
        return [*self.common(), f"--http-socket={address}", "--add-header=Connection: close"]


NGINX_CONF = """\
daemon off;
{user}
worker_processes {processes};
pid {dir}/nginx.pid;
error_log {dir}/log error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_max_body_size 0;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    scgi_temp_path {dir}/scgi;
    uwsgi_temp_path {dir}/uwsgi;
    {upstream}
    server {{
        listen {listen} backlog=2048;
        {locations}
    }}
}}
"""
# As conf/nginx.conf has it, for every server: connections to it are kept where it keeps them.
UPSTREAM = (
    "upstream app {{ server {address} fail_timeout=0; keepalive 32; keepalive_timeout 60s; }}"
)
PROXY_PASS = """proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme; proxy_next_upstream error;
        proxy_buffering on; proxy_buffers 16 16k;"""
UWSGI_PARAMS = """QUERY_STRING $query_string REQUEST_METHOD $request_method
CONTENT_TYPE $content_type CONTENT_LENGTH $content_length REQUEST_URI $request_uri
PATH_INFO $document_uri SERVER_PROTOCOL $server_protocol REQUEST_SCHEME $scheme
REMOTE_ADDR $remote_addr REMOTE_PORT $remote_port SERVER_PORT $server_port
SERVER_NAME $server_name""".split()


def nginx_command(server: Server, locations: str, upstream: str = "") -> list[str]:
    """Writes the settings of an nginx in front of `server`, or instead of one."""
    conf = NGINX_CONF.format(
        dir=server.dir,
        processes=server.processes,
        user="user root;" if os.geteuid() == 0 else "",
        listen=server.where,
        locations=locations,
        upstream=upstream,
    )
    (server.dir / "nginx.conf").write_text(conf)
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if not nginx:
        raise StartFailed("nginx is not installed")
    return [nginx, "-c", f"{server.dir}/nginx.conf", "-e", f"{server.dir}/log"]


def uwsgi_pass(to: str) -> str:
    """What nginx needs to speak uWSGI's protocol."""
    pairs = zip(UWSGI_PARAMS[::2], UWSGI_PARAMS[1::2], strict=True)
    params = " ".join(f"uwsgi_param {name} {value};" for name, value in pairs)
    return f"uwsgi_pass {to}; {params} uwsgi_buffers 16 16k;"


class Proxied(Server):
    """Any server behind nginx: `roots` are the server's own processes, nginx is `proxy_roots`."""

    def __init__(self, case: Case, venv: Path, behind: type[Server]) -> None:
        self.behind = behind(replace(case, unix=behind.unix_possible), venv)
        self.name = behind.name
        super().__init__(case, venv)

    def reject(self, case: Case) -> None:
        """The server behind has looked already."""

    def start(self, path: str) -> None:
        """The server, then nginx."""
        location = PROXY_PASS if self.behind.protocol == "http" else uwsgi_pass("app")
        upstream = UPSTREAM.format(address=self.behind.where)
        nginx = nginx_command(self, f"location / {{ {location} }}", upstream)
        self.behind.launch()
        self.spawn(nginx)
        self.wait_ready(path)

    def reload(self) -> None:
        """The server behind."""
        self.behind.reload()

    def ended(self) -> int | None:
        """Of either."""
        found = self.behind.ended()
        return super().ended() if found is None else found

    def log_end(self) -> str:
        """What the server says; nginx where that says nothing."""
        return self.behind.log_end() or super().log_end()

    @property
    def roots(self) -> list[int]:
        """The server's."""
        return self.behind.roots

    @property
    def proxy_roots(self) -> list[int]:
        """nginx."""
        return super().roots

    def stop(self) -> None:
        """nginx first, so that it does not ask in vain."""
        super().stop()
        self.behind.stop()


class Nginx(Server):
    """Static files only: no application."""

    name = "nginx"
    note = "no application"

    def command(self) -> list[str]:
        """sendfile and tcp_nopush, as its guide to static content advises."""
        static = (
            f"sendfile on; tcp_nopush on; include /etc/nginx/mime.types; alias {self.app.static}/;"
        )
        return nginx_command(self, f"location /static/ {{ {static} }}")


class UwsgiLazy(Uwsgi):
    """Each process loads the application, so that one may be reloaded after the other."""

    name = "uwsgi-lazy"
    note = "lazy-apps"

    def common(self) -> list[str]:
        """As `The Art of Graceful Reloading` of its documentation has it."""
        return [*super().common(), "--lazy-apps"]


class UwsgiNginx(Uwsgi):
    """Its own protocol behind nginx, as it is mostly deployed; both are counted."""

    name = "uwsgi-nginx"
    note = "nginx included"

    def command(self) -> list[str]:
        """A unix socket that nginx speaks to."""
        return [*self.common(), f"--uwsgi-socket={self.dir}/uwsgi.sock", "--chmod-socket=666"]

    def launch(self) -> None:
        """uWSGI, then nginx."""
        location = f"location / {{ {uwsgi_pass(f'unix:{self.dir}/uwsgi.sock')} }}"
        nginx = nginx_command(self, location)
        self.spawn(self.command())
        self.spawn(nginx)


class UwsgiProtocol(Uwsgi):
    """Its own protocol, behind an nginx that counts apart."""

    name = "uwsgi-protocol"
    note = "uwsgi protocol"
    protocol = "uwsgi"

    def command(self) -> list[str]:
        """nginx's user may write to the socket."""
        return [*self.common(), f"--uwsgi-socket={self.socket_path}", "--chmod-socket=666"]


class Granian(Server):
    """Its README: workers, blocking threads for WSGI; one runtime thread is the default."""

    name = "granian"

    def command(self) -> list[str]:
        """No HTTP/2 and no websockets: nobody asks for them here. The limit of connections, else
        1024 of all workers, is raised for the larger loads."""
        command = [self.bin("granian"), "--interface", "wsgi", "--http", "1", "--no-ws"]
        command += ["--backlog", "2048", "--backpressure", "4000"]
        command += ["--workers", str(self.processes), "--blocking-threads", str(self.threads)]
        if self.app.static:
            command += [
                "--static-path-route",
                "/static",
                "--static-path-mount",
                str(self.app.static),
            ]
        command += ["--log-level", "warning", self.app.wsgi]
        if self.unix:
            return [*command, "--uds", self.socket_path]
        return [*command, "--host", "127.0.0.1", "--port", str(self.port)]


class Bjoern(Server):
    """Forked, as its README shows."""

    name = "bjoern"
    most_threads = 1

    def command(self) -> list[str]:
        """See bjoern_run.py."""
        where = self.socket_path if self.unix else str(self.port)
        script = str(HERE / "bjoern_run.py")
        return [self.bin("python"), script, self.app.wsgi, str(self.processes), where]


class Fastwsgi(Server):
    """Forked by itself, as its README shows; it listens on TCP only."""

    name = "fastwsgi"
    most_threads = 1
    unix_possible = False

    def command(self) -> list[str]:
        """See fastwsgi_run.py."""
        script = str(HERE / "fastwsgi_run.py")
        return [self.bin("python"), script, self.app.wsgi, str(self.processes), str(self.port)]


class ModWsgi(Server):
    """mod_wsgi-express: Apache's event MPM and a daemon process group."""

    name = "mod_wsgi"
    unix_possible = False

    def command(self) -> list[str]:
        """As another user when started by root, for Apache does not serve as root."""
        module, _, attribute = self.app.wsgi.partition(":")
        command = [self.bin("mod_wsgi-express"), "start-server", "--application-type", "module"]
        command += [module, "--callable-object", attribute, "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--processes", str(self.processes)]
        command += ["--threads", str(self.threads), "--server-root", str(self.dir)]
        command += ["--working-directory", str(self.app.directory), "--log-to-terminal"]
        command += ["--python-path", str(self.app.directory), "--log-level", "error"]
        command += ["--keep-alive-timeout", KEEP_ALIVE_S, "--max-clients", "2500"]
        command += ["--locale", "C.UTF-8", "--limit-request-body", str(1 << 30)]
        if os.geteuid() != 0:
            return command
        shutil.chown(self.dir, "www-data", "www-data")
        # Reads and writes what root's files are, as every other server here may.
        capabilities = "+dac_override,+dac_read_search"
        return [
            *["setpriv", "--reuid=www-data", "--regid=www-data", "--clear-groups"],
            *[f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}", *command],
        ]


class Waitress(Server):
    """One process of threads; its documentation's command line."""

    name = "waitress"
    most_processes = 1

    def command(self) -> list[str]:
        """The connection limit is raised for the larger loads."""
        command = [self.bin("waitress-serve"), f"--threads={self.threads}"]
        command += ["--connection-limit=4000", "--backlog=2048"]
        if self.unix:
            command.append(f"--unix-socket={self.socket_path}")
        else:
            command.append(f"--listen=127.0.0.1:{self.port}")
        return [*command, self.app.wsgi]


class Uvicorn(Server):
    """The ASGI application, with uvloop and httptools."""

    name = "uvicorn"
    note = "ASGI application"
    asgi = True

    def command(self) -> list[str]:
        """Threads mean nothing to it."""
        command = [self.bin("uvicorn"), "--workers", str(self.processes), "--no-access-log"]
        command += ["--log-level", "warning", "--timeout-keep-alive", KEEP_ALIVE_S]
        command += ["--uds", self.socket_path] if self.unix else ["--port", str(self.port)]
        return [*command, self.application]


class UvicornA2wsgi(Uvicorn):
    """The WSGI application in threads, by a2wsgi, which uvicorn's documentation names for that."""

    name = "uvicorn-a2wsgi"
    note = ""
    asgi = False

    def command(self) -> list[str]:
        """The application is wrapped by as_asgi.py."""
        return [*super().command()[:-1], "as_asgi:application"]

    def environment(self) -> dict[str, str]:
        """What is wrapped, and how many threads it gets."""
        env = super().environment()
        path = f"{env['PYTHONPATH']}:{APPS}"
        wrapped = {"WRAPPED": self.app.wsgi, "WRAPPED_THREADS": str(self.threads)}
        return env | wrapped | {"PYTHONPATH": path}


SERVERS: dict[str, type[Server]] = {
    server.name: server
    for server in (
        Myserver,
        MyserverUwsgi,
        MyserverWatched,
        MyserverBare,
        MyserverPrewarm,
        Ceiling,
        Bjoern,
        Fastwsgi,
        Granian,
        Uwsgi,
        UwsgiLazy,
        UwsgiNginx,
        UwsgiProtocol,
        Nginx,
        UwsgiGevent,
        GunicornSync,
        GunicornPreload,
        GunicornGthread,
        GunicornGevent,
        GunicornUvicorn,
        ModWsgi,
        Waitress,
        Uvicorn,
        UvicornA2wsgi,
    )
}


def make(name: str, case: Case, venv: Path) -> Server:
    """The server of that name for a case."""
    return Proxied(case, venv, SERVERS[name]) if case.proxied else SERVERS[name](case, venv)


TOKENS = re.compile(rb"[A-Za-z0-9]{64}")  # of Django's forms: new in every response


def masked(body: bytes) -> bytes:
    """A body without what differs in every response."""
    return TOKENS.sub(b"*", body)
