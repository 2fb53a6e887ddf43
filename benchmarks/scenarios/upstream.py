"""upstream: a page that waits for three slow answers; threads against gevent and asyncio."""

import pairs
from model import Case, Load, Scenario, bench_app
from services import Services

SERVERS = (
    "in-process",
    "myserver",
    "granian",
    "uwsgi",
    "uwsgi-gevent",
    "gunicorn-gthread",
    "gunicorn-gevent",
    "mod_wsgi",
    "waitress",
    "uvicorn",
)
FEW = ("in-process", "myserver", "granian", "gunicorn-gevent", "uvicorn")
CLOSE = ("in-process", "myserver", "uvicorn")
PAGE_S = 0.6
HUNDRED = "1 x 100", "100 connections"  # what the bounds are about
LIGHT_PATH = "/light"
LIGHT = {n: (f"1 x {n}, light client", f"{n} connections") for n in (100, 400)}
GREENLETS = ("gunicorn-gevent", "uwsgi-gevent")
# Threads: seconds before anything counts, and seconds that count. Connections come one after the
# other in the first half of the former. With 400 threads the first pages take some seconds.
TIMES = {2: (1.2, 2.4), 100: (2.4, 3.6), 400: (5, 4)}


def load_of(threads: int, path: str = "/") -> Load:
    """As many connections as threads."""
    steady_s, seconds = TIMES[threads]
    name = f"{threads} connections"
    times = {"steady_s": steady_s, "seconds": seconds, "parts": True, "timeout_s": 20}
    return Load(name, (path,), connections=threads, **times)


def scenario(services: Services, quick: bool) -> Scenario:
    """1 process; as many connections as threads, so that the ideal is threads / 0.6 s."""
    app = bench_app("upstream", UPSTREAM_URL=services.upstream_url())
    cases = []
    for threads in (100,) if quick else (100, 2, 400):
        full = threads == 100 and not quick
        case = Case(
            f"1 x {threads}",
            app,
            1,
            threads,
            [load_of(threads)],
            SERVERS if full else FEW,
            ceiling_threads=threads,
            rounds=2 if full else 1,
            thorough=CLOSE,
        )
        cases.append(case)
    for threads in () if quick else LIGHT:
        case = Case(
            LIGHT[threads][0],
            app,
            1,
            threads,
            [load_of(threads, LIGHT_PATH)],
            (*FEW, "uwsgi-gevent"),
            checks=[LIGHT_PATH],
            ceiling_threads=threads,
            rounds=2 if threads == 100 else 1,
            thorough=(*CLOSE, "gunicorn-gevent"),
        )
        cases.append(case)
    notes = [
        "httpx takes 3 ms of CPU for the page, so one process answers 250 a second at most, whatever"
        " the server does; the light client is http.client, with asyncio its streams",
        f"the page takes {PAGE_S} s: without any cost, N threads answer N / {PAGE_S} requests a"
        " second",
        "all connections are there and busy before anything counts, and go on until what was under"
        " way at the end is answered; a request counts by the part of it that lies within the time"
        " that counts",
    ]
    title = "A page that asks a slow service three times"
    return Scenario(title, cases, seconds=3.6, rounds=1, notes=notes)


def extras(result: dict) -> list[str]:
    """For every server: the share of what is possible."""
    lines = []
    shapes = [(n, (f"1 x {n}", f"{n} connections")) for n in TIMES]
    for threads, names in [*shapes, *LIGHT.items()]:
        most = threads / PAGE_S
        ceiling = pairs.samples(result, "in-process", *names)
        said = []
        for server in pairs.servers(result, *names):
            found = pairs.samples(result, server, *names)
            share = pairs.median([sample["rps"] / most for sample in found.values()])
            of_ceiling = pairs.ratios("rps", found, ceiling)
            text = f"{server} {share:.3f}"
            said.append(text + (f" and {pairs.text(of_ceiling)}" if server != "in-process" else ""))
        if said:
            lines.append(
                f"{names[0]}: share of {most:.1f}/s, and of what in-process reaches:"
                f" {'; '.join(said)}"
            )
        lines += cpu_of(result, names)
    return lines


def cpu_of(result: dict, names: tuple[str, str]) -> list[str]:
    """Where the CPU goes: what the page takes without a server, and what each server adds."""
    alone = pairs.samples(result, "in-process", *names)
    said = []
    for server in pairs.servers(result, *names):
        found = pairs.samples(result, server, *names)
        ratio = pairs.text(pairs.ratios("cpu_s_per_1000", found, alone), ".2f")
        if server != "in-process" and alone:
            said.append(f"{server} {ratio}")
    return [f"{names[0]}: CPU a request to in-process: {'; '.join(said)}"] if said else []
