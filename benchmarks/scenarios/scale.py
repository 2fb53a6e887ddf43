"""scale: cost against work: connections, workers, threads, bodies, idle connections, each from one
to many. Only ours: each curve should be flat or a line."""

import resource

import curves
from model import Case, Curve, Load, Scenario, bench_app
from services import Services

OURS = ("myserver",)
CONNECTIONS = (1, 4, 16, 64, 256, 1024, 4000)
WORKERS = (1, 2, 4, 8, 16, 32, 64)
THREADS = (1, 4, 16, 64, 100, 200, 400)
IDLE = (10, 100, 1000, 10_000, 100_000)
KB, MB, GB = 1024, 1024**2, 1024**3
BODIES = (KB, 10 * KB, 100 * KB, MB, 10 * MB, 100 * MB, GB)
LONG_BYTES = 100 * MB  # from here on a body takes a good part of the measurement
IDLE_WORKERS = 8
PATIENT = ("--keep-alive=1h",)  # so that the first still stand when the last have come
BUSY = Load("64 connections", connections=64, warmup_s=0.3)


def few(sizes: tuple[int, ...], quick: bool) -> tuple[int, ...]:
    """The ends and the middle."""
    return sizes[:: len(sizes) // 2] if quick else sizes


def size_name(size: int) -> str:
    """1 kB, 10 MB, 1 GB."""
    unit, name = next((u, n) for u, n in ((GB, "GB"), (MB, "MB"), (KB, "kB")) if size >= u)
    return f"{size // unit} {name}"


def body_load(way: str, size: int) -> Load:
    """Bodies of one size; long ones count by their parts."""
    path = f"/upload={size}" if way == "up" else f"/pieces?kb={size // KB}"
    long = {"steady_s": 0.4, "parts": True, "seconds": 3 if size < GB else 5, "timeout_s": 60}
    more = long if size >= LONG_BYTES else {"warmup_s": 0.2}
    return Load(f"{size_name(size)} {way}", (path,), 2, **more)


def connected(count: int) -> Load:
    """All are there before anything counts."""
    steady_s = max(0.4, count / 2000)
    return Load(f"{count:,} connections", connections=count, steady_s=steady_s, timeout_s=30)


def waiting(threads: int) -> Load:
    """Every thread waits for 200 ms."""
    times = {"steady_s": 0.6, "seconds": 1.5, "parts": True}
    return Load("pages of 200 ms", ("/wait",), threads, **times)


def idle_load(count: int) -> Load:
    """Some ask, others do nothing."""
    return Load(f"beside {count:,} idle", connections=16, idle_connections=count, warmup_s=0.3)


def scenario(services: Services, quick: bool) -> Scenario:
    """Two workers where nothing else is said; four threads each."""
    hello, scale = bench_app("hello"), bench_app("scale")
    connections = [(n, connected(n)) for n in few(CONNECTIONS, quick)]
    bodies = [
        (way, size, body_load(way, size))
        for way in ("up", "down")
        for size in (BODIES[::2] if quick else BODIES)
        if not quick or size < LONG_BYTES
    ]
    idles = few(IDLE[:-1] if quick else IDLE, quick)
    many = Case("connections", hello, 2, 4, [load for _, load in connections], OURS)
    sized = Case("bodies", scale, 2, 4, [load for _, _, load in bodies], OURS)
    workers = [(n, Case(f"{n} workers", hello, n, 4, [BUSY], OURS)) for n in few(WORKERS, quick)]
    threads = [
        (n, Case(f"1 x {n}", scale, 1, n, [BUSY, waiting(n)], OURS)) for n in few(THREADS, quick)
    ]
    held = [
        (
            n,
            Case(
                f"{n:,} idle",
                hello,
                IDLE_WORKERS,
                4,
                [idle_load(n)],
                OURS,
                options=PATIENT,
                rounds=1,
            ),
        )
        for n in idles
    ]
    cases = [many, *(c for _, c in workers), *(c for _, c in threads), sized, *(c for _, c in held)]
    if quick:
        cases = [many, *(c for _, c in threads), *(c for _, c in held)]
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    notes = [
        f"a process may have {files:,} files here, so {IDLE[-1]:,} idle connections need"
        f" {IDLE_WORKERS} workers; the clients are as many processes, on other addresses of the"
        " loopback network, as one address has 28,000 ports",
    ]
    found = [
        *connection_curves([(n, many.name, load.name) for n, load in connections]),
        *worker_curves([(n, case.name, BUSY.name) for n, case in workers]),
        *thread_curves([(n, case.name) for n, case in threads]),
        *body_curves([(way, size / MB, load.name) for way, size, load in bodies]),
        *idle_curves([(n, case.name, case.loads[0].name) for n, case in held]),
    ]
    title = "Cost against work"
    return Scenario(title, cases, curves=found, seconds=1, rounds=2, minutes=3, notes=notes)


Points = list[tuple[float, str, str]]


def connection_curves(points: Points) -> list[Curve]:
    """A closed system: twice the connections wait twice as long for the same throughput."""
    alone = "one connection waits for each answer before it asks again: the CPUs rest meanwhile"
    return [
        Curve("connections", "connections", "rps", points, "flat", alone),
        Curve("connections", "connections", "cpu_s_per_1000", points, "flat", alone),
        Curve("connections", "connections", "p50_ms", points, "linear"),
        Curve("connections", "connections", "p99_ms", points, "linear"),
        Curve("connections", "connections", "memory_mb", points, "linear"),
    ]


def worker_curves(points: Points) -> list[Curve]:
    """64 connections for all of them, on the same CPUs."""
    spread = (
        "the more workers, the fewer of the 64 connections has each, the more often it sleeps and"
        " must be woken; no cost of the workers that have nothing to do"
    )
    return [
        Curve("workers", "workers", "rps", points, "flat", spread),
        Curve("workers", "workers", "cpu_s_per_1000", points, "flat", spread),
        Curve("workers", "workers", "p99_ms", points, "flat"),
        Curve("workers", "workers", "memory_mb", points, "linear"),
    ]


def thread_curves(cases: list[tuple[float, str]]) -> list[Curve]:
    """64 connections that do not wait; as many as threads that do."""
    busy = [(n, case, BUSY.name) for n, case in cases]
    wait = [(n, case, waiting(1).name) for n, case in cases]
    by_clock = "one thread answers five a second, which share what a worker does by the clock"
    return [
        Curve("threads", "threads", "rps", busy, "flat"),
        Curve("threads", "threads", "cpu_s_per_1000", busy, "flat"),
        Curve("threads that wait", "threads", "rps", wait, "linear"),
        Curve("threads that wait", "threads", "cpu_s_per_1000", wait, "flat", by_clock),
        Curve("threads", "threads", "memory_mb", wait, "linear"),
    ]


def body_curves(loads: list[tuple[str, float, str]]) -> list[Curve]:
    """Two connections."""
    found = []
    for way in ("up", "down"):
        points = [(mb, "bodies", load) for which, mb, load in loads if which == way]
        title = f"bodies {way}"
        found.append(Curve(title, "MB", "cpu_s_per_1000", points, "linear"))
        found.append(Curve(title, "MB", "memory_mb", points, "flat"))
    return found


def idle_curves(points: Points) -> list[Curve]:
    """16 connections ask meanwhile."""
    pages = "memory comes in pages, which a few connections do not fill"
    return [
        Curve("idle connections", "idle", "memory_mb", points, "linear"),
        Curve("idle connections", "idle", "idle_kb", points, "flat", pages),
        Curve("idle connections", "idle", "rps", points, "flat"),
        Curve("idle connections", "idle", "p99_ms", points, "flat"),
    ]


def extras(result: dict) -> list[str]:
    """Each curve in words; what idle connections take of the kernel, and whether any was lost."""
    said = curves.lines(result, result["curves"])
    for sample in result["samples"]:
        if "idle_kb" in sample:
            said.append(
                f"{sample['case']}: {sample['idle_kb']:.2f} kB of the server and"
                f" {sample['idle_kernel_kb']:.1f} kB of the kernel for both ends each;"
                f" {sample['idle_lost']} were closed meanwhile"
            )
    return said
