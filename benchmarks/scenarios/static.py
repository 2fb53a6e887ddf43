"""static: files of 2 kB, 64 kB and 10 MB, beside nginx, granian, and WhiteNoise under gunicorn."""

import os
from pathlib import Path

from model import APPS, App, Case, Load, Scenario
from services import Services

SERVERS = ("nginx", "myserver", "granian", "gunicorn-sync", "gunicorn-gthread")
SIZES = {"small.css": 2 * 1024, "script.js": 64 * 1024, "video.mp4": 10 * 1024 * 1024}
SMALL = Load("2 kB, 50 connections", ("/static/small.css",))
MIDDLE = Load("64 kB, 50 connections", ("/static/script.js",))
LARGE = Load("10 MB, 8 connections", ("/static/video.mp4",), 8)


def fill(directory: Path) -> None:
    """Makes the files; no two lines are the same."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        (directory / name).write_bytes(b"".join(b"%07d\n" % n for n in range(size // 8)))


def scenario(services: Services, quick: bool) -> Scenario:
    """Two processes with one thread each; nginx has no threads."""
    directory = services.var / "static"
    fill(directory)
    os.chmod(services.var, 0o755)
    app = App("assets:application", None, APPS, {"BENCH_STATIC": str(directory)}, directory)
    loads = [SMALL] if quick else [SMALL, MIDDLE, LARGE]
    checks = ["/static/small.css", "/static/script.js", "/static/video.mp4"]
    case = Case("2 x 1", app, 2, 1, loads, SERVERS, checks=checks)
    return Scenario("Static files", [case], seconds=2, rounds=2)
