"""Clients of databases and caches that a warm-up has used: no worker shares a connection of theirs."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator

import pytest

from harness import Server, wait_for

Start = Callable[..., Server]


class Store(socketserver.ThreadingTCPServer):
    """Speaks as much of the protocols of memcached and redis as the clients need to connect."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Talk)
        self.open: set[object] = set()
        self.accepted = 0


class Talk(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self) -> None:
        """Line by line."""
        assert isinstance(self.server, Store)
        self.server.accepted += 1
        self.server.open.add(self)
        try:
            for line in self.rfile:
                answer = self.answer(line.split())
                self.wfile.write(answer)
        except OSError:
            pass  # the client is gone
        finally:
            self.server.open.discard(self)

    def answer(self, words: list[bytes]) -> bytes:
        """redis sends arrays of strings, each with its length on a line before it."""
        if words == [b"version"]:
            return b"VERSION 1.6\r\n"
        if words[:1] == [b"get"]:
            return b"END\r\n"
        if words and words[0].startswith(b"*"):
            parts = []
            for _ in range(int(words[0][1:])):
                self.rfile.readline()
                parts.append(self.rfile.readline().strip().upper())
            return {b"PING": b"+PONG\r\n", b"EXISTS": b":0\r\n"}.get(parts[0], b"+OK\r\n")
        return b"ERROR\r\n"


@pytest.fixture
def store() -> Iterator[Store]:
    """One that runs."""
    with Store() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def answers(server: Server, workers: int) -> set[str]:
    """What is said, when all workers have been asked."""
    seen: dict[str, str] = {}

    def ask() -> bool:
        said, _, pid = server.get("/").text.rpartition(" ")
        seen[pid] = said
        return len(seen) == workers

    wait_for(ask, 20, f"{workers} workers")
    return set(seen.values())


@pytest.mark.parametrize(
    ("client", "says"),
    [
        ("redis", "True"),
        ("pymemcache", "b'1.6'"),
        ("pymemcache pool", "b'1.6'"),
        ("django cache", "None"),
    ],
)
def test_connections_of_caches(server: Start, store: Store, client: str, says: str) -> None:
    """Those of the warm-up are closed at the store; each worker opens one of its own, which works."""
    env = {"STORE": client, "STORE_PORT": str(store.server_address[1])}
    s = server("stores", workers=2, prewarm=["/"], env=env)
    assert answers(s, 2) == {says}
    assert store.accepted >= 4, "two for the rounds of the warm-up, and one for each worker"
    wait_for(lambda: len(store.open) == 2, what="only the workers' connections")


def test_django_keeps_the_connections_of_its_caches(server: Start, store: Store) -> None:
    """Its clients are in context variables, which end with the request; their connections do not."""
    env = {"STORE": "django redis", "STORE_PORT": str(store.server_address[1])}
    s = server("stores", workers=1, env=env)
    assert answers(s, 1) == {"False"}
    before = store.accepted
    for _ in range(5):
        assert answers(s, 1) == {"False"}
    assert store.accepted == before


def test_pool_of_django(server: Start, postgres: str) -> None:
    """PostgreSQL sees one connection of each worker and no other; all of them work."""
    import psycopg

    env = {"STORE": "django pool", "STORE_URL": postgres}
    s = server("stores", workers=2, prewarm=["/"], env=env)
    assert answers(s, 2) == {"(7,)"}
    with psycopg.connect(postgres, autocommit=True) as connection:
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stores'"
        wait_for(lambda: connection.execute(count).fetchone() == (2,), what="two connections")


def test_engine_of_sqlalchemy(server: Start, postgres: str) -> None:
    """Used at import: each worker opens its own connection, and the mold's is closed."""
    pytest.importorskip("sqlalchemy")
    import psycopg

    env = {"STORE": "sqlalchemy", "STORE_URL": postgres}
    s = server("stores", workers=2, env=env)
    assert answers(s, 2) == {"7"}
    assert " is open" not in s.log
    with psycopg.connect(postgres, autocommit=True) as connection:
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stores'"
        wait_for(lambda: connection.execute(count).fetchone() == (2,), what="two connections")


def test_database_in_memory_stays(server: Start) -> None:
    """It would be lost with its connection."""
    pytest.importorskip("sqlalchemy")
    s = server("stores", workers=2, env={"STORE": "sqlalchemy", "STORE_URL": ""})
    assert answers(s, 2) == {"7"}


def test_pool_opened_at_import(server: Start, postgres: str) -> None:
    """It cannot be opened again once it is closed: so it is named, with what to do."""
    env = {"STORE": "psycopg_pool", "STORE_URL": postgres}
    s = server("stores", workers=1, prewarm=["/"], env=env)
    line = r"started at \S+/stores.py:\d+,"
    assert s.log_contains(rf"thread 'pool-1-.*', {line} does not exist")
    assert s.log_contains(
        r"a socket to \('127.0.0.1', \d+\) .* is open: in the workers it is at its end"
    )
