"""A Django project in one file, whose views spend their time in known ways.

SEEN_DB is its SQLite database, which is made at import; SEEN_URL that of a PostgreSQL or MySQL one that
takes its place, with more settings of it in SEEN_DATABASE (JSON); SEEN_DEBUG sets DEBUG.
"""

import asyncio
import gc
import json
import os
import threading
import time
from urllib.parse import urlsplit

import django
from asgiref.sync import sync_to_async
from django.conf import settings

import myserver

DATABASE = os.environ["SEEN_DB"]
if "GC_THRESHOLD" in os.environ:
    gc.set_threshold(int(os.environ["GC_THRESHOLD"]))

URL = urlsplit(os.environ.get("SEEN_URL", ""))
if URL.scheme == "mysql":
    import pymysql

    pymysql.install_as_MySQLdb()
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE}
REMOTE = {
    "ENGINE": f"django.db.backends.{URL.scheme}",
    "NAME": URL.path.lstrip("/"),
    "USER": URL.username,
    "PASSWORD": URL.password or "",
    "HOST": URL.hostname,
    "PORT": URL.port,
    **json.loads(os.environ.get("SEEN_DATABASE", "{}")),
}
OTHER = SQLITE | {"NAME": f"{DATABASE}.other"}
settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG="SEEN_DEBUG" in os.environ,
    DATABASES={"default": REMOTE if URL.path else SQLITE, "other": OTHER},
    MIDDLEWARE=[f"{__name__}.early"] if "SEEN_EARLY" in os.environ else [],
    ROOT_URLCONF=__name__,
    SECRET_KEY="secret",
    USE_TZ=True,
)
django.setup()

from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.db import connection, connections, transaction  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path, re_path  # noqa: E402

with transaction.atomic(), connection.cursor() as made:
    for table, rows in {"item": 200, "big": 2000}.items():
        made.execute(f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, name TEXT)")
        made.execute(f"SELECT count(*) FROM {table}")
        if made.fetchone() == (0,):
            names = [(n, f"name {n}") for n in range(1, rows + 1)]
            made.executemany(f"INSERT INTO {table} (id, name) VALUES (%s, %s)", names)
            if URL.path:
                made.execute(f"ANALYZE {'TABLE ' if URL.scheme == 'mysql' else ''}{table}")
connection.close()
with connections["other"].cursor() as made:
    made.execute("CREATE TABLE IF NOT EXISTS big (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
connections["other"].close()

SLOW = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %s)
          SELECT count(*) FROM n"""
lock = threading.Lock()


def burn(seconds: float) -> None:
    """Computes for so much CPU time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def quick(_request: HttpRequest, **_parts: object) -> HttpResponse:
    """Does nothing."""
    return HttpResponse("quick")


kept: list[bytearray] = []


def leaks(_request: HttpRequest, number: int) -> HttpResponse:
    """Keeps another 1 MB."""
    kept.append(bytearray(1024 * 1024))
    return HttpResponse(str(number))


def cycles(_request: HttpRequest) -> HttpResponse:
    """Leaves 20,000 lists behind that own themselves, and so makes the collector run."""
    for _ in range(20000):
        owner: list[object] = []
        owner.append(owner)
    return HttpResponse("cycles")


def burns(_request: HttpRequest) -> HttpResponse:
    """Computes for 50 ms."""
    burn(0.05)
    return HttpResponse("burnt")


def sleeps(_request: HttpRequest) -> HttpResponse:
    """Waits for 100 ms, for nothing."""
    time.sleep(0.1)
    return HttpResponse("slept")


def waits(_request: HttpRequest) -> HttpResponse:
    """Computes for 30 ms beside a thread that wants the interpreter all the time."""
    is_over = threading.Event()

    def spin() -> None:
        while not is_over.is_set():
            pass

    spinner = threading.Thread(target=spin)
    spinner.start()
    burn(0.03)
    is_over.set()
    spinner.join()
    return HttpResponse("waited")


def locked(_request: HttpRequest) -> HttpResponse:
    """Waits for a lock that another thread has for 100 ms."""
    has_it = threading.Event()

    def hold() -> None:
        with lock:
            has_it.set()
            time.sleep(0.1)

    holder = threading.Thread(target=hold)
    holder.start()
    has_it.wait()
    with lock:
        holder.join()
    return HttpResponse("locked")


def item_name(number: int) -> str:
    """One query."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM item WHERE id = %s", [number])
        row = cursor.fetchone()
    return row[0] if row else ""


def equal(_request: HttpRequest, count: int = 30) -> HttpResponse:
    """The same query so many times."""
    return HttpResponse(" ".join(item_name(number + 1) for number in range(count)))


def costs(_request: HttpRequest) -> HttpResponse:
    """What this request has cost so far, and what a thread knows that runs none."""
    burn(0.02)
    item_name(1)
    found: list[object] = []
    other = threading.Thread(target=lambda: found.append(myserver.request_costs()))
    other.start()
    other.join()
    so_far = myserver.request_costs()
    return JsonResponse({"costs": so_far and so_far._asdict(), "elsewhere": found})


def same(_request: HttpRequest) -> HttpResponse:
    """The same query with the same value four times."""
    return HttpResponse(" ".join(item_name(7) for _ in range(4)))


def wrong(_request: HttpRequest) -> HttpResponse:
    """A query that SQLite refuses."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM item")
    except Exception as error:
        return HttpResponse(type(error).__name__)
    return HttpResponse("no error")


def scan(_request: HttpRequest, table: str) -> HttpResponse:
    """A query that reads all of a table."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM {table} WHERE name = %s", ["name 7"])  # noqa: S608
        return HttpResponse(str(cursor.fetchone()))


def likes(_request: HttpRequest) -> HttpResponse:
    """A query that no plain index helps."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM big WHERE name LIKE %s", ["%7%"])
        return HttpResponse(str(cursor.fetchone()))


def both(_request: HttpRequest) -> HttpResponse:
    """A query to each of the two databases, four times."""
    for alias in ("default", "other") * 4:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT id FROM big WHERE name = %s", ["name 7"])
            cursor.fetchone()
    return HttpResponse("asked")


def writes(_request: HttpRequest) -> HttpResponse:
    """A statement that writes."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO big (id, name) VALUES (%s, %s)", [100_000, "new"])
    return HttpResponse("written")


def holds(_request: HttpRequest) -> HttpResponse:
    """Has a connection for 200 ms."""
    connection.ensure_connection()
    time.sleep(0.2)
    return HttpResponse("held")


def absent(_request: HttpRequest) -> HttpResponse:
    """A query that finds nothing."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM big WHERE id = -%s", [7])
        return HttpResponse(str(cursor.fetchone()))


CROSSED = """SELECT count(*) FROM big a, big b, big c
             WHERE a.id <= %s AND a.name < b.name AND b.name < c.name"""


def crossed(_request: HttpRequest) -> HttpResponse:
    """A query that takes no time with this value, and for ever with a large one."""
    with connection.cursor() as cursor:
        cursor.execute(CROSSED, [0])
        return HttpResponse(str(cursor.fetchone()))


def slow(_request: HttpRequest) -> HttpResponse:
    """Three queries in which SQLite computes for a while."""
    with connection.cursor() as cursor:
        for steps in (200_000, 200_001, 200_002):
            cursor.execute(SLOW, [steps])
            cursor.fetchall()
    return HttpResponse("counted")


def streams(_request: HttpRequest) -> StreamingHttpResponse:
    """Three pieces, and 20 ms of waiting before each."""

    def pieces():
        for _ in range(3):
            time.sleep(0.02)
            yield b"x" * 1000

    return StreamingHttpResponse(pieces())


def fails(_request: HttpRequest) -> HttpResponse:
    """Raises."""
    raise ValueError("as asked")


async def async_burns(_request: HttpRequest) -> HttpResponse:
    """Computes for 50 ms, in the thread of its event loop."""
    burn(0.05)
    return HttpResponse("burnt")


async def async_sleeps(_request: HttpRequest) -> HttpResponse:
    """Waits for 100 ms."""
    await asyncio.sleep(0.1)
    return HttpResponse("slept")


async def async_slow(request: HttpRequest) -> HttpResponse:
    """What the view `slow` does."""
    return await sync_to_async(slow)(request)


async def async_equal(_request: HttpRequest) -> HttpResponse:
    """The same query 30 times."""
    names = [await sync_to_async(item_name)(number + 1) for number in range(30)]
    return HttpResponse(" ".join(names))


NAME = "SELECT name FROM item WHERE id = %s"


async def async_bare(_request: HttpRequest) -> HttpResponse:
    """The same query six times, by functions that are not this application's."""
    cursor = await sync_to_async(lambda: connection.cursor())()
    for number in range(6):
        await sync_to_async(cursor.execute)(NAME, [number])  # in async_bare
    return HttpResponse("asked")


async def async_streams(_request: HttpRequest) -> StreamingHttpResponse:
    """The same from a generator that makes the pieces of an answer."""

    async def pieces():
        cursor = await sync_to_async(lambda: connection.cursor())()
        for number in range(6):
            await sync_to_async(cursor.execute)(NAME, [number])  # in pieces
            yield b"asked"

    return StreamingHttpResponse(pieces())


def rows(_request: HttpRequest) -> HttpResponse:
    """Rows that SQLite computes when they are asked for, one by one."""
    sql = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) "
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} SELECT i FROM n WHERE i % 100000 = 0")
        return HttpResponse(str([row[0] for row in cursor]))


def named(_request: HttpRequest) -> HttpResponse:
    """Values that have names: three times the same, and another one."""
    with connection.cursor() as cursor:
        for number in (7, 7, 7, 8):
            cursor.execute("SELECT name FROM item WHERE id = %(id)s", {"id": number})
    return HttpResponse("asked")


def driver(_request: HttpRequest) -> HttpResponse:
    """Statements past Django, by the driver of the database."""
    if URL.scheme == "mysql":
        parts = {"host": URL.hostname, "port": URL.port, "user": URL.username}
        connected = pymysql.connect(**parts, database=URL.path.lstrip("/"))
    else:
        import psycopg

        connected = psycopg.connect(URL.geturl())
    with connected, connected.cursor() as cursor:
        for number in range(6):
            cursor.execute(NAME, [number])
            cursor.fetchall()
    return HttpResponse("asked")


def typed(_request: HttpRequest) -> HttpResponse:
    """Texts with their type, and columns by their number."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id + 1, count(*) FROM big WHERE DATE '2026-01-02' > TIMESTAMP '2026-01-01' "
            "GROUP BY 1 ORDER BY 2"
        )
    return HttpResponse("asked")


def early(get_response):
    """Middleware that asks the database before there is a view."""

    def call(request: HttpRequest) -> HttpResponse:
        if "early" in request.GET:
            equal(request, 7)
        return get_response(request)

    return call


def secrets(request: HttpRequest) -> HttpResponse:
    """Statements with what nobody is to see: in parameters, in their text, in comments."""
    token = request.GET["token"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM item WHERE name = %s", [f"parameter-{token}"])
        cursor.execute(f"SELECT name FROM item WHERE name = 'literal-{token}'")  # noqa: S608
        cursor.execute(f"SELECT name FROM item /* comment-{token} */ WHERE id = 4711")  # noqa: S608
        cursor.execute(f"SELECT name FROM item -- comment-{token}\n WHERE id = 4711")  # noqa: S608
        cursor.execute(f'SELECT name FROM item WHERE name = "quoted{token}"')  # noqa: S608
    return HttpResponse("told")


def hooked(_request: HttpRequest) -> HttpResponse:
    """Whether the server has put itself around the cursors."""
    from django.db.backends.utils import CursorWrapper

    return HttpResponse("yes" if hasattr(CursorWrapper._execute, "__wrapped__") else "no")


urlpatterns = [
    path("hooked/", hooked),
    path("", quick),
    path("quick/<int:number>/", quick),
    re_path(r"^old/(?P<number>\d+)/$", quick),
    path("leaks/<int:number>/", leaks),
    path("cycles/", cycles),
    path("burns/", burns),
    path("sleeps/", sleeps),
    path("waits/", waits),
    path("locked/", locked),
    path("equal/", equal),
    path("equal/<int:count>/", equal),
    path("holds/", holds),
    path("slow/", slow),
    path("scan/<slug:table>/", scan),
    path("likes/", likes),
    path("both/", both),
    path("writes/", writes),
    path("absent/", absent),
    path("crossed/", crossed),
    path("costs/", costs),
    path("same/", same),
    path("wrong/", wrong),
    path("streams/", streams),
    path("fails/", fails),
    path("async-burns/", async_burns),
    path("async-sleeps/", async_sleeps),
    path("async-slow/", async_slow),
    path("async-equal/", async_equal),
    path("async-bare/", async_bare),
    path("async-streams/", async_streams),
    path("rows/", rows),
    path("named/", named),
    path("driver/", driver),
    path("typed/", typed),
    path("secrets/", secrets),
]
application = WSGIHandler()
