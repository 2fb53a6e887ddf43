"""The applications that are tried, and what their users care about.

One object of a class below lives as long as one life of a server. `wrong` looks at each answer,
`after` at what is there when the server has ended.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from contextlib import AbstractContextManager, ExitStack
from typing import ClassVar, TypeVar

import fakes
from harness import ROOT, free_port
from life import Answer, Life, wait
from services import postgres

SHOP = ROOT / "shop"
ACCOUNTS = 8
PRODUCTS = 300
SAY_SESSIONS = f"""
from django.contrib.auth import SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
for number in range({ACCOUNTS}):
    user = get_user_model().objects.create_superuser(f"account{{number}}", password="secret")
    store = SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.save()
    print("session", store.session_key)
"""

T = TypeVar("T")


class Shared:
    """What is started once for all lives, when a case first asks for it."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.lock = threading.RLock()
        self.database = ""
        self.sessions: list[str] = []
        self.var = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="compatibility-"))

    def postgres(self) -> str:
        """The URL of a database on a server of our own."""
        with self.lock:
            self.database = self.database or self.stack.enter_context(postgres())
        return f"{self.database}/shop"

    def shop_env(self) -> dict[str, str]:
        """The environment of the shop."""
        return {
            "SHOP_VAR": self.var,
            "DEBUG": "false",
            "SECRET_KEY": "for-the-tests-only",
            "ALLOWED_HOSTS": "*",
            "DATABASE_URL": self.postgres(),
        }

    def fill_shop(self) -> list[str]:
        """Products, and accounts that are logged in: the keys of their sessions."""
        with self.lock:
            if not self.sessions:
                self.manage("migrate", "-v0")
                self.manage("populate", "--products", str(PRODUCTS))
                said = self.manage("shell", "-v0", "-c", SAY_SESSIONS)
                self.sessions = re.findall(r"^session (\w+)", said, re.MULTILINE)
            return self.sessions

    def manage(self, *arguments: str) -> str:
        """The shop's manage.py; what it prints."""
        command = [sys.executable, str(SHOP / "manage.py"), *arguments]
        env = os.environ | self.shop_env()
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, timeout=120)
        done.check_returncode()
        return done.stdout


class Case:
    """An application of which every answer is JSON that names its user, and more as `echo...`."""

    name: ClassVar[str]
    title: ClassVar[str]
    module: ClassVar[str]
    env: ClassVar[dict[str, str]] = {}
    launcher: ClassVar[tuple[str, ...]] = ()  # the agent's command in front of the server's
    why: ClassVar[str] = ""  # it cannot be right in a forked worker without help

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.stack = ExitStack()
        self.used_by: defaultdict[object, set[object]] = defaultdict(set)

    def close(self) -> None:
        """Ends the services of this life."""
        self.stack.close()

    def start(self, service: AbstractContextManager[T]) -> T:
        """Starts a service of this life."""
        return self.stack.enter_context(service)

    def prepare(self, life: Life) -> dict[str, str]:
        """Starts what is needed; the environment of the application."""
        return dict(self.env)

    def path(self, user: str) -> str:
        """What `user` asks for."""
        return f"/?user={user}"

    def headers(self, user: str) -> dict[str, str]:
        """What `user` sends beside."""
        return {}

    def worker(self, answer: Answer) -> str:
        """Which process has answered."""
        return str(answer.facts["pid"])

    def wrong(self, life: Life, user: str, answer: Answer) -> str:
        """What is wrong with the answer to `user`, or nothing."""
        if answer.status != 200:
            return answer.reason or f"status {answer.status}"
        facts = answer.facts
        if "backend" in facts:
            self.used_by[facts["backend"]].add(facts["pid"])
        for name, value in facts.items():
            if name.startswith("echo") and value != user:
                return "the data of another user" if "user" in str(value) else "other data"
        return "" if facts["user"] == user else "the answer to another user"

    def before_stop(self, life: Life) -> None:
        """Looks at the server while it runs."""

    def after(self, life: Life) -> list[str]:
        """What is wrong when the server has ended."""
        if any(len(pids) > 1 for pids in self.used_by.values()):
            return ["workers share a connection to the database"]
        return []


def compare(what: str, wanted: set[str], heard: Counter[str]) -> list[str]:
    """What of `wanted` was not heard, was heard twice, or was heard though nobody asked."""
    missing = len(wanted - heard.keys())
    twice = sum(1 for user, count in heard.items() if user in wanted and count > 1)
    others = sorted(user for user in heard if user not in wanted)
    found = [f"{missing} of {len(wanted)} {what} are missing"] if missing else []
    found += [f"{twice} of {len(wanted)} {what} came more than once"] if twice else []
    found += [f"{what} of nobody's request: {', '.join(others[:3])}"] if others else []
    return found


# ---- frameworks ----------------------------------------------------------------------------------


class Django(Case):
    """Search pages that show what was asked, the admin's page of who is logged in, and an API."""

    name = "django"
    title = "Django: the shop, on PostgreSQL"
    module = "django_shop"

    def prepare(self, life: Life) -> dict[str, str]:
        """Its database and its users."""
        self.sessions = self.shared.fill_shop()
        self.application_name = f"shop-{life.mark[:12]}"
        env = self.shared.shop_env() | {"PYTHONPATH": str(SHOP)}
        env["DATABASE_URL"] += f"?application_name={self.application_name}"
        return env

    def number(self, user: str) -> int:
        """Of the user; 0 for the warm-up."""
        return int(user.removeprefix("user")) if user.startswith("user") else 0

    def path(self, user: str) -> str:
        """One of three pages."""
        number = self.number(user)
        pages = [f"/search/?q={user}", "/admin/", f"/api/products?page={number % 5 + 1}"]
        return pages[number % 3]

    def headers(self, user: str) -> dict[str, str]:
        """The session."""
        return {"Cookie": f"sessionid={self.sessions[self.number(user) % ACCOUNTS]}"}

    def worker(self, answer: Answer) -> str:
        """It is in a header."""
        return answer.headers["X-Worker"]

    def wrong(self, life: Life, user: str, answer: Answer) -> str:
        """Each page has something of its user and nothing of another."""
        if answer.status != 200:
            return answer.reason or f"status {answer.status}"
        if answer.headers["X-Backend"] != "0":
            self.used_by[answer.headers["X-Backend"]].add(answer.headers["X-Worker"])
        number, text = self.number(user), answer.body.decode()
        if number % 3 == 2:
            return "" if answer.facts["page"] == number % 5 + 1 else "another page of the API"
        mine = user if number % 3 == 0 else f"account{number % ACCOUNTS}"
        shown = set(re.findall(r"\b(?:user|account)\d+\b", text))
        if shown == {mine}:
            return ""
        return "a page with something of another user" if shown else "a page without its user"

    def after(self, life: Life) -> list[str]:
        """No connection is left either."""
        import psycopg

        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"

        def left() -> int:
            row = connection.execute(query, [self.application_name]).fetchone()
            return row[0] if row else 0

        with psycopg.connect(self.shared.postgres(), autocommit=True) as connection:
            is_clean = wait(lambda: left() == 0, 5)
        return super().after(life) + ([] if is_clean else ["connections to the database are left"])


class Flask(Case):
    """Answers with what its database and another service say."""

    name = "flask"
    title = "Flask with a SQLAlchemy engine and a `requests.Session`, made at import"
    module = "flask_app"
    env = {"AT_IMPORT": ""}

    def prepare(self, life: Life) -> dict[str, str]:
        """Database and upstream."""
        database = self.shared.postgres().replace("postgresql:", "postgresql+psycopg:")
        upstream = self.start(fakes.Fake())
        return self.env | {"DATABASE": database, "UPSTREAM": upstream.url}


class FlaskConnected(Flask):
    """As above, with a connection of each already open when workers are forked."""

    name = "flask-connected"
    title = "Flask with both, used at import"
    env = {"AT_IMPORT": "yes"}
    why = (
        "SQLAlchemy asks for `engine.dispose(close=False)` in each forked process; a "
        "`requests.Session` keeps its connection, which all workers then share."
    )


class Gevent(Case):
    """A request that spawns and joins."""

    name = "gevent"
    title = "gevent: `spawn` and `joinall` in a view"
    module = "gevent_app"
    env = {"PATCH": ""}

    def prepare(self, life: Life) -> dict[str, str]:
        """A service that echoes."""
        return self.env | {"PORT": str(self.start(fakes.Fake()).port)}


class GeventPatched(Gevent):
    """The same with a patched library."""

    name = "gevent-patched"
    title = "gevent with `monkey.patch_all()` at import"
    env = {"PATCH": "yes"}


# ---- processes -----------------------------------------------------------------------------------


class ExecutorRequest(Case):
    """A pool that a request makes."""

    name = "executor-request"
    title = "`ProcessPoolExecutor` made by the first request"
    module = "pools"
    env = {"KIND": "executor", "WHEN": "request"}


class ExecutorImport(ExecutorRequest):
    """A pool that starts its processes when it is first used."""

    name = "executor-import"
    title = "`ProcessPoolExecutor` made at import, used by requests"
    env = {"KIND": "executor", "WHEN": "import"}
    why = (
        "The executor makes the pipes of its queues when it is made, so that the pools of "
        "all workers share them."
    )


class PoolRequest(ExecutorRequest):
    """The older kind."""

    name = "pool-request"
    title = "`multiprocessing.Pool` made by the first request"
    env = {"KIND": "pool", "WHEN": "request"}


class PoolImport(ExecutorRequest):
    """Needs threads of the process that made it."""

    name = "pool-import"
    title = "`multiprocessing.Pool` made at import"
    env = {"KIND": "pool", "WHEN": "import"}
    why = "The pool needs threads of the process that made it."


class ManagerRequest(ExecutorRequest):
    """A process that keeps objects."""

    name = "manager-request"
    title = "`multiprocessing.Manager` made by the first request"
    env = {"KIND": "manager", "WHEN": "request"}


class ManagerImport(ExecutorRequest):
    """The same for all workers."""

    name = "manager-import"
    title = "`multiprocessing.Manager` made and used at import"
    env = {"KIND": "manager", "WHEN": "import"}
    why = (
        "The proxy keeps a connection of the thread that has used it; it forgets it only "
        "in processes that `multiprocessing` starts itself."
    )


class HelperRequest(ExecutorRequest):
    """A program that answers over pipes."""

    name = "helper-request"
    title = "a helper program with pipes, started by the first request"
    env = {"KIND": "helper", "WHEN": "request"}


class HelperImport(ExecutorRequest):
    """One for all workers, each with its own lock."""

    name = "helper-import"
    title = "a helper program with pipes, started at import"
    env = {"KIND": "helper", "WHEN": "import"}
    why = "All workers write into one pipe and read from one pipe."


# ---- agents and metrics --------------------------------------------------------------------------


class Sentry(Case):
    """Every message arrives once, also the last ones."""

    name = "sentry"
    title = "Sentry (`sentry-sdk`)"
    module = "sentry"

    def prepare(self, life: Life) -> dict[str, str]:
        """A service that takes events."""
        self.fake = self.start(fakes.Sentry())
        return {"SENTRY": f"http://key@127.0.0.1:{self.fake.port}/1"}

    def after(self, life: Life) -> list[str]:
        """Of each request one."""
        found = compare("events", life.users, self.fake.heard)
        return found + [f"the SDK gave up events: {reason}" for reason in self.fake.given_up]


class Telemetry(Case):
    """Every span arrives once, also those of the last batch."""

    name = "opentelemetry"
    title = "OpenTelemetry (`BatchSpanProcessor`, OTLP/HTTP)"
    module = "telemetry"

    def prepare(self, life: Life) -> dict[str, str]:
        """A collector."""
        self.fake = self.start(fakes.Collector())
        return {"COLLECTOR": self.fake.url, "OTEL_SERVICE_NAME": "compatibility"}

    def after(self, life: Life) -> list[str]:
        """Of each request one."""
        return compare("spans", life.users, self.fake.heard)


class TelemetryCommand(Telemetry):
    """The same, without a line in the application."""

    name = "opentelemetry-instrument"
    title = "OpenTelemetry (`opentelemetry-instrument`, Flask)"
    module = "observed"
    launcher = ("opentelemetry-instrument",)

    def prepare(self, life: Life) -> dict[str, str]:
        """A collector."""
        self.fake = self.start(fakes.Collector())
        return {
            "AGENT": "opentelemetry",
            "OTEL_SERVICE_NAME": "compatibility",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.fake.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }


class Elastic(Case):
    """Every transaction arrives once."""

    name = "elastic"
    title = "Elastic APM (`elastic-apm`, Flask)"
    module = "observed"

    def prepare(self, life: Life) -> dict[str, str]:
        """An APM server."""
        self.fake = self.start(fakes.Elastic())
        return {
            "AGENT": "elastic",
            "ELASTIC_APM_SERVER_URL": self.fake.url,
            "ELASTIC_APM_SERVICE_NAME": "compatibility",
            "ELASTIC_APM_METRICS_INTERVAL": "0s",
        }

    def after(self, life: Life) -> list[str]:
        """Of each request one."""
        return compare("transactions", life.users, self.fake.heard)


class Datadog(Case):
    """Every trace arrives once."""

    name = "datadog"
    title = "Datadog (`ddtrace-run`, Flask)"
    module = "observed"
    launcher = ("ddtrace-run",)

    def prepare(self, life: Life) -> dict[str, str]:
        """An agent."""
        self.fake = self.start(fakes.Datadog())
        return {
            "AGENT": "datadog",
            "DD_TRACE_AGENT_URL": self.fake.url,
            "DD_TRACE_API_VERSION": "v0.4",
            "DD_SERVICE": "compatibility",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        }

    def after(self, life: Life) -> list[str]:
        """Of each request one."""
        return compare("traces", life.users, self.fake.heard)


class NewRelic(Case):
    """Every transaction is in a harvest of its worker's agent."""

    name = "newrelic"
    title = "New Relic (`newrelic`)"
    module = "new_relic"

    def prepare(self, life: Life) -> dict[str, str]:
        """A collector with a certificate of its own."""
        self.fake = self.start(fakes.NewRelic(life.dir))
        return {
            "NEW_RELIC_LICENSE_KEY": "0" * 40,
            "NEW_RELIC_APP_NAME": "compatibility",
            "NEW_RELIC_HOST": "127.0.0.1",
            "NEW_RELIC_PORT": str(self.fake.port),
            "NEW_RELIC_CA_BUNDLE_PATH": str(self.fake.certificate),
            "NEW_RELIC_STARTUP_TIMEOUT": "10.0",  # its first request waits for the connection
            "NEW_RELIC_SHUTDOWN_TIMEOUT": "5.0",
            "NEW_RELIC_LOG": "stderr",
            "NEW_RELIC_LOG_LEVEL": "error",
        }

    def after(self, life: Life) -> list[str]:
        """Of each request one."""
        return compare("transactions", life.users, self.fake.heard)


class NewRelicCommand(NewRelic):
    """The same, without a line in the application."""

    name = "newrelic-admin"
    title = "New Relic (`newrelic-admin run-program`, Flask)"
    module = "observed"
    launcher = ("newrelic-admin", "run-program")

    def prepare(self, life: Life) -> dict[str, str]:
        """Its collector."""
        return super().prepare(life) | {"AGENT": "newrelic"}


class Prometheus(Case):
    """The sum over all workers is the number of requests."""

    name = "prometheus"
    title = "prometheus_client, multiprocess mode"
    module = "metrics"

    def prepare(self, life: Life) -> dict[str, str]:
        """Its directory."""
        self.directory = life.dir / "metrics"
        self.directory.mkdir()
        return {"PROMETHEUS_MULTIPROC_DIR": str(self.directory)}

    def after(self, life: Life) -> list[str]:
        """As a scrape would add it up."""
        from prometheus_client import CollectorRegistry, multiprocess

        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, str(self.directory))
        total = int(registry.get_sample_value("requests_total") or 0)
        wanted = len(life.users)
        return [] if total == wanted else [f"{total} requests counted of {wanted}"]


class PrometheusPort(Case):
    """A port that the import opens answers as long as the server runs."""

    name = "prometheus-port"
    title = "prometheus_client, `start_http_server` at import"
    module = "metrics"

    def prepare(self, life: Life) -> dict[str, str]:
        """Its port."""
        self.port = free_port()
        return {"METRICS_PORT": str(self.port)}

    def before_stop(self, life: Life) -> None:
        """Ten scrapes."""
        import http.client

        failed: Counter[str] = Counter()
        for _ in range(10):
            client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            try:
                client.request("GET", "/metrics")
                if b"requests_total" not in client.getresponse().read():
                    failed["without the counter"] += 1
            except (OSError, http.client.HTTPException) as error:
                failed[type(error).__name__] += 1
                if failed.total() >= 2:
                    break
            finally:
                client.close()
        life.problems += [f"scrapes of the metrics port: {what}" for what in failed]


# ---- threads of the import -----------------------------------------------------------------------


class Loguru(Case):
    """Every line is in the file once."""

    name = "loguru"
    title = "loguru with `enqueue=True`"
    module = "threads"
    env = {"KIND": "loguru"}

    def prepare(self, life: Life) -> dict[str, str]:
        """The file."""
        self.lines = life.dir / "lines"
        return self.env | {"LINES": str(self.lines)}

    def after(self, life: Life) -> list[str]:
        """Of each request one."""
        written = self.lines.read_text().split() if self.lines.exists() else []
        return compare("lines", life.users, Counter(written))


class Listener(Loguru):
    """The standard library's way."""

    name = "listener"
    title = "`logging` with a `QueueListener` started at import"
    env = {"KIND": "listener"}
    why = "The thread that writes the records exists only in the process that started it."


class ThreadExecutor(Case):
    """A pool whose threads are gone."""

    name = "thread-executor"
    title = "`ThreadPoolExecutor` made and used at import"
    module = "threads"
    env = {"KIND": "executor"}
    why = "The executor counts idle threads that exist only in the process that started them."


class AsyncioThread(ThreadExecutor):
    """A loop whose thread is gone."""

    name = "asyncio-thread"
    title = "an asyncio loop in a thread started at import"
    env = {"KIND": "asyncio"}
    why = "The thread that runs the loop exists only in the process that started it."


class A2wsgi(ThreadExecutor):
    """An ASGI application."""

    name = "a2wsgi"
    title = "a2wsgi (`ASGIMiddleware` made at import)"
    env = {"KIND": "a2wsgi"}
    why = (
        "`ASGIMiddleware` starts a thread for its loop, which exists only in the process "
        "that started it."
    )


# ---- files and finalizers ------------------------------------------------------------------------


class Audit(Case):
    """Every line is in the file once, though no one has flushed it."""

    name = "audit"
    title = "a buffered log file opened at import"
    module = "kept"
    env = {"KIND": "audit"}

    def prepare(self, life: Life) -> dict[str, str]:
        """Where the files are."""
        self.directory = life.dir / "files"
        self.directory.mkdir()
        return self.env | {"DIRECTORY": str(self.directory)}

    def written(self) -> list[str]:
        """All lines."""
        path = self.directory / "lines"
        return path.read_text().split() if path.exists() else []

    def ends(self) -> tuple[Counter[str], Counter[str]]:
        """Who made something that has an end, and who has seen its end."""
        path = self.directory / "ends"
        lines = path.read_text().splitlines() if path.exists() else []
        made = Counter(line.split()[-1] for line in lines if line.startswith("made"))
        finalized = Counter(line.split()[-1] for line in lines if line.startswith("finalized"))
        return made, finalized

    def leftovers(self, kind: str) -> list[str]:
        """Temporary files that are still there."""
        left = list(self.directory.glob(f"{kind}-*"))
        return [f"a temporary {kind} is left"] if left else []

    def finalizers(self) -> list[str]:
        """Each once."""
        made, finalized = self.ends()
        found = compare("finalizers", set(made), finalized)
        return found

    def after(self, life: Life) -> list[str]:
        """Of each request one."""
        return compare("lines", life.users, Counter(self.written()))


class WorkerFiles(Audit):
    """What a worker opens it closes properly."""

    name = "worker-files"
    title = "gzip file, `NamedTemporaryFile` and `weakref.finalize` of a worker"
    env = {"KIND": "worker"}

    def written(self) -> list[str]:
        """All lines of all workers."""
        lines = []
        for path in self.directory.glob("lines-*.gz"):
            try:
                lines += gzip.decompress(path.read_bytes()).decode().split()
            except (OSError, EOFError):
                continue  # not closed: its lines are missing
        return lines

    def after(self, life: Life) -> list[str]:
        """Lines, temporary files, finalizers."""
        return super().after(life) + self.leftovers("file") + self.finalizers()


class ImportFiles(Audit):
    """What the import has made lives as long as the server."""

    name = "import-files"
    title = "`TemporaryDirectory` and `weakref.finalize` of the import"
    env = {"KIND": "import"}

    def after(self, life: Life) -> list[str]:
        """The end comes once, and at the end."""
        return self.leftovers("directory") + self.finalizers()


# ---- clients of other services -------------------------------------------------------------------


class Redis(Case):
    """A client with a connection of the import."""

    name = "redis"
    title = "redis-py, used at import"
    module = "clients"
    env = {"KIND": "redis"}

    def prepare(self, life: Life) -> dict[str, str]:
        """A service that echoes."""
        return self.env | {"PORT": str(self.start(fakes.Redis()).port)}


class GrpcUnused(Case):
    """A channel that does nothing before it is used."""

    name = "grpc-unused"
    title = "gRPC channel made at import"
    module = "clients"
    env = {"KIND": "grpc unused"}

    def prepare(self, life: Life) -> dict[str, str]:
        """A service that echoes."""
        return self.env | {"PORT": str(self.start(fakes.Grpc()).port)}


class Grpc(GrpcUnused):
    """A channel with threads and connections of the import."""

    name = "grpc"
    title = "gRPC channel made and used at import"
    env = {"KIND": "grpc"}
    why = "gRPC's core supports a fork only before its first call."


class PsycopgPool(Case):
    """A pool with threads and connections of the import."""

    name = "psycopg-pool"
    title = "`psycopg_pool.ConnectionPool` opened at import"
    module = "clients"
    env = {"KIND": "psycopg_pool"}
    why = (
        "The pool has threads and connections of the process that opened it; its "
        "documentation asks to open it in each process."
    )

    def prepare(self, life: Life) -> dict[str, str]:
        """The database."""
        return self.env | {"PORT": "0", "DATABASE": self.shared.postgres()}


CASES: list[type[Case]] = [
    Django,
    Flask,
    FlaskConnected,
    Gevent,
    GeventPatched,
    ExecutorRequest,
    ExecutorImport,
    PoolRequest,
    PoolImport,
    ManagerRequest,
    ManagerImport,
    HelperRequest,
    HelperImport,
    Sentry,
    Telemetry,
    TelemetryCommand,
    Elastic,
    Datadog,
    NewRelic,
    NewRelicCommand,
    Prometheus,
    PrometheusPort,
    Loguru,
    Listener,
    ThreadExecutor,
    AsyncioThread,
    A2wsgi,
    Audit,
    WorkerFiles,
    ImportFiles,
    Redis,
    GrpcUnused,
    Grpc,
    PsycopgPool,
]
