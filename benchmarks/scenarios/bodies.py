"""bodies: uploads and downloads of 10 MB, posts of 100 kB, JSON of 1 kB to 1 MB; and their memory."""

from model import ALL_SERVERS, FEW_SERVERS, Case, Load, Scenario, bench_app
from services import Services

UPLOAD = Load("10 MB uploads", (f"/upload={10 * 1024 * 1024}",), 8)
WHOLE = Load("10 MB uploads, read at once", (f"/read={10 * 1024 * 1024}",), 8)
POST = Load("100 kB posts", (f"/read={100 * 1024}",), 8)
FILE = Load("10 MB files", ("/file",), 8)
GENERATOR = Load("10 MB in pieces", ("/generator",), 8)
LARGE = UPLOAD.name, FILE.name, GENERATOR.name
SMALL = "1 kB of JSON"
JSON = [Load(f"{kb} kB of JSON", (f"/json?kb={kb}",), 8, warmup_s=0.2) for kb in (1, 64, 1024)]


def scenario(services: Services, quick: bool) -> Scenario:
    """The memory is the peak while a load runs."""
    app = bench_app("bodies", BENCH_VAR=str(services.var))
    loads = [UPLOAD, WHOLE, POST, FILE, GENERATOR, *(JSON[1:2] if quick else JSON)]
    chosen = FEW_SERVERS if quick else ALL_SERVERS
    checks = ["/json?kb=64", "/generator", "/file"]
    cases = [Case("2 x 4", app, 2, 4, loads, chosen, checks=checks, watch_memory=True)]
    if not quick:
        single = ("myserver", "bjoern", "granian", "gunicorn-sync")
        large = [UPLOAD, FILE, GENERATOR]
        cases.append(Case("2 x 1", app, 2, 1, large, single, checks=checks, watch_memory=True))
    return Scenario("Large bodies", cases, seconds=1, rounds=1)
