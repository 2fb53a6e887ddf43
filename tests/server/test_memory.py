"""What workers share, what they have of their own, and what a fork must not break."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import harness
import memory_proc
from harness import Server, StartFailed, wait_for

Start = Callable[..., Server]
REQUESTS = 10_000 if harness.FLAVOUR == "release" else 200
MB = 1024 * 1024

only_release = pytest.mark.skipif(
    harness.FLAVOUR != "release", reason="sanitizers have memory of their own"
)


def ask_all(server: Server, path: str) -> set[str]:
    """Requests until every worker has answered; their answers."""
    workers = len(server.workers())
    answers: set[str] = set()

    def ask() -> bool:
        answers.add(server.get(path).text)
        return len(answers) == workers

    wait_for(ask, 20, f"{workers} answers")
    return answers


def ask_often(server: Server, path: str, requests: int) -> None:
    """On one connection, one after the other."""
    head = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with server.connect(30) as connection:
        stream = connection.makefile("rb")
        for _ in range(0, requests, 20):
            connection.sendall(head * 20)
            for _ in range(20):
                length = 0
                while (line := stream.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                stream.read(length)


def private_mb(pid: int) -> float:
    """The memory that a process shares with nobody."""
    return memory_proc.usage(pid).private / MB


def mold_mb(server: Server) -> float:
    """All that the mold has, shared or not."""
    usage = memory_proc.usage(server.molds()[0])
    return (usage.private + usage.shared) / MB


def python_minor() -> int:
    """Of the Python that the program is built for."""
    found = re.search(r"Python 3\.(\d+)", harness.run("--version").stdout)
    assert found
    return int(found[1])


def skip_before_312() -> None:
    """Where reference counts write to every page anyway."""
    if python_minor() < 12:
        pytest.skip("before CPython 3.12 reference counts are always written")


# ---- sharing


@only_release
@pytest.mark.parametrize("path", ["/", "/collect"])
def test_workers_share_what_was_loaded(server: Start, path: str) -> None:
    """An idle worker has nearly nothing of its own; requests and collections do not change that."""
    s = server("heap", workers=2)
    whole = mold_mb(s)
    assert whole > 30
    assert max(private_mb(pid) for pid in s.workers()) < 0.15 * whole
    ask_all(s, path)
    ask_often(s, "/", REQUESTS)
    ask_all(s, path)
    assert max(private_mb(pid) for pid in s.workers()) < 0.15 * whole


@only_release
@pytest.mark.parametrize("allocator", ["debug", "malloc", "malloc_debug", "mimalloc"])
def test_other_allocators(server: Start, allocator: str) -> None:
    """Those of PYTHONDEVMODE and of memory checkers have no holes that the mold could fill, so it does
    not try: a hello has a few MB."""
    if allocator == "mimalloc" and python_minor() < 13:
        pytest.skip("before CPython 3.13 there is no such allocator")
    s = server("hello", env={"PYTHONMALLOC": allocator})
    assert mold_mb(s) < 80


@only_release
@pytest.mark.parametrize("library", ["libjemalloc", "libtcmalloc_minimal", "libmimalloc"])
def test_other_libraries_for_malloc(server: Start, library: str) -> None:
    """Their holes are not filled: nobody knows where such a heap ends. The start is as quick as ever,
    and the mold no larger."""
    found = sorted(Path("/usr/lib").glob(f"*/{library}.so.*"))
    assert found, f"make deps installs {library}"
    s = server("hello", env={"LD_PRELOAD": str(found[0])})
    assert s.get("/").status == 200
    for pid in [*s.molds(), *s.workers()]:
        assert library in Path(f"/proc/{pid}/maps").read_text()
    assert mold_mb(s) < 100


@only_release
@pytest.mark.parametrize("immortal", [True, False])
def test_requests_leave_nothing(server: Start, immortal: bool) -> None:
    """Private memory does not grow with requests."""
    s = server("heap", immortal=immortal)
    ask_often(s, "/", REQUESTS // 10)
    before = private_mb(s.workers()[0])
    ask_often(s, "/", 2 * REQUESTS)
    assert private_mb(s.workers()[0]) < before + 1


@only_release
def test_immortal_does_not_grow(server: Start) -> None:
    """Objects that are never freed are those of the mold, not those of 100,000 requests."""
    s = server("heap", threads=2)
    ask_often(s, "/", 1000)
    ask_often(s, "/read", 100)
    before = private_mb(s.workers()[0])
    ask_often(s, "/", 10 * REQUESTS)
    ask_often(s, "/read", 100)
    ask_often(s, "/", 1000)
    ask_all(s, "/collect")
    assert private_mb(s.workers()[0]) < before + 1


@only_release
def test_immortal_objects_may_be_read(server: Start) -> None:
    """Reading writes no reference counts where CPython lets us, and little is copied then."""
    skip_before_312()
    s = server("heap", workers=1)
    ask_often(s, "/read", 20)
    assert private_mb(s.workers()[0]) < 0.2 * mold_mb(s)


@only_release
def test_code_that_never_settles_lies_together(server: Start) -> None:
    """1,500 functions, each on a page of its own and written by every call: a worker copies the few
    pages that they were moved to, not 1,500."""
    skip_before_312()
    s = server("codes", workers=1, prewarm=["/"])
    ask_often(s, "/", 50)
    together = 1.1 * int(s.get("/bytes").body) / MB
    assert together + 1 < 1500 * 4096 / MB  # else it would not show that they lie there
    assert private_mb(s.workers()[0]) < together + 1


def test_code_that_was_moved_is_the_same(server: Start) -> None:
    """For tracebacks, closures, generators, weak references and those who compare it."""
    s = server("codes", workers=2, prewarm=["/", "/facts"], log_level="debug")
    moved = s.log_contains(r"(\d+) code objects lie together")
    assert moved and int(moved[1]) >= 1500
    answers = {s.get("/").text.split()[0] for _ in range(10)}
    assert len(answers) == 1
    for _ in range(4):
        assert "False" not in s.get("/facts").text


@only_release
def test_names_of_the_warm_up_are_not_freed_by_workers(server: Start) -> None:
    """Of 4,000 names, each on a page that is shared, the cache of methods still has some: a worker that
    looks for others does not write to their pages."""
    s = server("names", workers=1, prewarm=["/"], prewarm_rounds=1)
    for _ in range(20):
        assert s.get("/").text == "0"
    assert private_mb(s.workers()[0]) < 0.15 * 4000 * 4096 / MB


# ---- what a program can see


THINGS = (
    *("__del__", "weak value", "weak key", "weak set", "weak function", "weak method", "callback"),
    *("finalize", "epoll", "selector", "socket", "file", "temporary", "sqlite", "generator"),
    *("context", "bytearray", "array", "map of pages", "map of a file"),
)


@pytest.mark.parametrize("thing", THINGS)
def test_end_of_what_was_loaded_is_noticed(server: Start, thing: str) -> None:
    """In a worker it ends as in plain Python, whatever kept it, also in a cycle."""
    s = server("noticed", workers=1, prewarm_rounds=0, env={"THING": thing})
    lines = s.get("/end").text.split("\n")
    assert len(lines) > 20
    assert [line for line in lines if not line.endswith(": False True")] == []


def test_what_is_filled_in_a_worker_ends_with_what_it_has(server: Start) -> None:
    """An empty list and an object of the module were there at the fork."""
    s = server("noticed", workers=1, prewarm_rounds=0, env={"THING": "__del__"})
    assert s.get("/forget").text == "forgotten: 2"


@pytest.mark.parametrize("options", [{"immortal": False}, {"preload": False}, {}])
def test_heap_is_left_alone_if_so_wanted(server: Start, options: dict[str, bool]) -> None:
    """One option turns everything off: nothing is immortal, frozen or moved."""
    s = server(
        "witness_heap", workers=1, prewarm_rounds=3, prewarm=["/"], log_level="debug", **options
    )
    answer = dict(line.split() for line in s.get("/").text.split("\n"))
    assert answer["frozen"] == ("0" if options else "many")
    assert ("the heap is settled" in s.log) == (not options)
    if options:
        assert answer["immortal"] == "False"


def test_no_preload_loads_in_every_worker(server: Start) -> None:
    """Slower and larger, and nothing of it in the mold."""
    s = server("warmed", workers=2, preload=False)
    wait_for(lambda: len(re.findall(r"\) serves$", s.log, re.MULTILINE)) == 2, what="two workers")
    loaded = {int(pid) for pid in re.findall(r"loaded in (\d+)", s.log)}
    assert loaded == set(s.workers())
    assert s.get("/").text == "ab"
    s = server("warmed", preload=False, prewarm="/a", prewarm_rounds=2)
    assert s.log.count("asked GET /a localhost , no key; 0.") == 2, "each warms itself up"


# ---- the collector


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize("collector", ["untouched", "off and on", "on by an old name"])
def test_cycles_are_collected_between_requests(
    server: Start, collector: str, preload: bool
) -> None:
    """A request does not find what the one before it has left; by itself the collector comes in the
    middle of one, and some is always left."""
    s = server("litter", prewarm_rounds=0, preload=preload, env={"COLLECTOR": collector})
    s.get("/")
    wait_for(lambda: s.get("/").text == "0", what="a collection")


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize("collector", ["off in postfork", "off at import", "off by threshold"])
def test_application_without_collector(server: Start, collector: str, preload: bool) -> None:
    """It has said so: nobody collects."""
    s = server("litter", prewarm_rounds=0, preload=preload, env={"COLLECTOR": collector})
    assert [s.get("/").text for _ in range(20)] == [str(300 * n) for n in range(20)]


# ---- the report


def test_memory_report(server: Start) -> None:
    """One line a process, the sum, and what it means."""
    s = server("heap", workers=2)
    wait_for(lambda: len(s.workers()) == 2, what="two workers")
    done = harness.run("--memory-report", str(s.pid))
    assert done.returncode == 0, done.stderr
    for pid in [s.pid, *s.molds(), *s.workers()]:
        assert re.search(rf"^myserver: .* {pid} +[\d.]+ +[\d.]+ +[\d.]+$", done.stdout, re.M)
    parts = [float(n) for n in re.findall(r"^myserver: .* (\d+\.\d) +\S+ +\S+$", done.stdout, re.M)]
    total = re.search(r"^all +([\d.]+)$", done.stdout, re.M)
    assert total and abs(float(total[1]) - sum(parts)) < 1
    assert re.search(r"a further worker costs about [\d.]+ MB", done.stdout)
    if harness.FLAVOUR == "release":
        kept = re.search(r"it still shares [\d.]+ MB \((\d+) %\)", done.stdout)
        assert kept and int(kept[1]) > 80


@pytest.mark.parametrize(
    ("pid", "sentence"),
    [
        ("1", "is no master of myserver"),
        ("2000000000", "is no master of myserver"),
        ("x", "write the process number of a server's master"),
        ("-1", "write the process number of a server's master"),
        ("", "write the process number of a server's master"),
    ],
)
def test_memory_report_of_something_else(pid: str, sentence: str) -> None:
    """A sentence, and the status of a wrong command line."""
    done = harness.run(f"--memory-report={pid}")
    assert done.returncode == 2
    assert sentence in done.stderr


# ---- hooks


def events(server: Server) -> list[str]:
    """What the application said, in order."""
    return re.findall(r"event: (.*)", server.log)


def test_hooks_run_once_in_their_process_and_order(server: Start) -> None:
    """prefork in the mold, then the fork with its own hooks, then postfork in the worker."""
    s = server("forks", workers=2)
    wait_for(lambda: s.log.count("event: postfork") == 2, what="two workers")
    said, mold, workers = events(s), s.molds()[0], s.workers()
    assert said[:3] == [f"prefork {mold}", "prefork again", "at fork, before"]
    assert sum(line.startswith("prefork") for line in said) == 2
    for pid in workers:
        child, after = f"at fork, child {pid}", f"postfork {pid} is worker"
        places = [i for i, line in enumerate(said) if line == child or line.startswith(after)]
        assert len(places) == 2 and said[places[0]] == child
    wait_for(lambda: events(s).count(f"at fork, parent {mold}") == 2, what="both forks to return")
    numbers = sorted(line[-1] for line in said if line.startswith("postfork"))
    assert numbers == ["1", "2"]


@pytest.mark.parametrize(
    ("has", "sentence"),
    [
        ("failing prefork", "the application cannot be made ready to fork"),
        ("failing postfork", "the worker cannot begin"),
    ],
)
def test_hooks_that_raise(server: Start, has: str, sentence: str) -> None:
    """The server does not start, and shows the traceback."""
    with pytest.raises(StartFailed) as failure:
        server("forks", env={"HAS": has}, expect_deaths=True)
    assert failure.value.status == 3
    assert sentence in failure.value.log
    assert "ZeroDivisionError" in failure.value.log


# ---- what a fork breaks


def test_executor_made_and_used_at_import(server: Start) -> None:
    """Its threads are gone in the workers; it starts new ones, so nobody is warned."""
    s = server("forks", workers=2, env={"HAS": "executor"})
    for _ in range(4):
        assert s.get("/executor").text == "0,1,2,3,4,5,6,7"
    assert "not exist in the workers" not in s.log


def test_executor_that_is_busy_at_the_fork(server: Start) -> None:
    """What it runs does not go on in the workers; the mold waits for it at its end, as python does."""
    s = server("forks", env={"HAS": "busy executor"}, graceful_timeout=f"{4 * harness.SLOWNESS}s")
    line = r"started at \S+/forks.py:\d+,"
    assert s.log_contains(rf"thread 'sender_0', {line} does not exist in the workers")
    assert s.get("/executor").text == "0,1,2,3,4,5,6,7"


def test_thread_started_at_import_is_named(server: Start) -> None:
    """It does not exist in the workers, and the log says which, whose, and what to do."""
    s = server("forks", env={"HAS": "thread"})
    assert s.log_contains(
        r"\[warning\] worker . .* thread 'uploader', started at \S+/forks.py:\d+, does not exist in "
        r"the workers: start it in a function decorated with @myserver.postfork, or set preload = false"
    )
    assert "uploader" not in s.get("/threads").text


def test_socket_opened_at_import_is_named(server: Start) -> None:
    """With whom it is connected, and what to do."""
    s = server("forks", env={"HAS": "socket"})
    assert s.log_contains(r"a socket to \('127.0.0.1', \d+\) \(descriptor \d+\) is open")
    assert s.log_contains(r"a socket to nobody \(bound to \('127.0.0.1', \d+\)\)")
    assert s.get("/").status == 200


@only_release
def test_application_that_takes_long_to_load(server: Start) -> None:
    """Longer than a request or a stop may take: it is waited for."""
    s = server("forks", env={"HAS": "slow import"}, timeout="4s", graceful_timeout="4s")
    assert s.get("/").status == 200


@pytest.mark.parametrize(("path", "answer"), [("/fork", "7"), ("/subprocess", "hello\n")])
def test_application_that_forks(server: Start, path: str, answer: str) -> None:
    """Its children are its own."""
    s = server("forks", workers=2)
    for _ in range(4):
        assert s.get(path).text == answer
    assert len(s.workers()) == 2


@pytest.mark.parametrize("preload", [True, False])
def test_copy_that_comes_back_from_the_warm_up(server: Start, preload: bool) -> None:
    """It is ended, in the mold and in the worker, and the process it was made from serves."""
    s = server("forks", preload=preload, prewarm="/leaves", prewarm_rounds=2)
    assert s.log_contains(r"a process that the application forked .* came back")
    assert s.get("/fork").text == "7"
    assert len(s.workers()) == 1


def test_copy_that_comes_back_from_a_hook(server: Start) -> None:
    """It does not become a second mold."""
    s = server("forks", env={"HAS": "forking prefork"})
    assert s.log_contains("event: copied")
    assert s.log_contains(r"a process that the application forked .* came back")
    assert len(s.molds()) == len(s.workers()) == 1


def test_children_begun_in_postfork(server: Start) -> None:
    """They are ended by signals as any other, and are none of the server's."""
    s = server("forks", env={"HAS": "children in postfork"})
    assert "event: ended -15 and -15, myserver: forked by the application\n" in s.log


def test_warm_up_leaves_no_connection_in_the_mold(
    server: Start, postgres: str, tmp_path: Path
) -> None:
    """PostgreSQL sees the workers' connections only, one each, and all of them work."""
    import psycopg

    from shop_client import populate, shop_options

    populate(tmp_path, DATABASE_URL=postgres)
    url = f"{postgres}?application_name=memory"
    s = server(workers=2, prewarm=["/"], **shop_options(tmp_path, DATABASE_URL=url))
    wait_for(lambda: len(s.workers()) == 2, what="two workers")
    assert s.log_contains(r"warmed up: \d+ rounds of 1 path")
    with psycopg.connect(postgres, autocommit=True) as connection:
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'memory'"
        for _ in range(20):
            assert s.get("/").status == 200

        def is_one_each() -> bool:
            row = connection.execute(count).fetchone()
            return row is not None and 1 <= row[0] <= 2

        wait_for(is_one_each)  # one that was closed has an end of its own there
