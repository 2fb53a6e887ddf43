"""Installs wheels and the sdist as a user would, and serves a page with each: `make test-wheels`.

    wheels.py DIST PYTHON...

For each PYTHON: the wheel of its version in DIST beside packages with C in them, all imported by the
page that is served; then the sdist, built by pip. Prints a table; 1: something failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

NEIGHBOURS = ("gevent", "psycopg[binary]", "numpy", "cryptography")
PAGE = """\
import cryptography.hazmat.bindings._rust, gevent, numpy, psycopg, sys
def application(environ, start_response):
    gevent.spawn(int).join()
    start_response("200 OK", [])
    return [f"{sys.prefix} {numpy.arange(4).sum()}".encode()]
"""
BARE = """\
import sys
def application(environ, start_response):
    start_response("200 OK", [])
    return [f"{sys.prefix} 6".encode()]
"""
SECONDS = 60


def serve(command: list[str], folder: Path) -> str:
    """The page of a server that is started for it."""
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    bind = ["--bind", "127.0.0.1:0"]
    log = folder / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*command, *bind, "page"], cwd=folder, env=environment, stdout=out, stderr=out
        )
    try:
        until = time.monotonic() + SECONDS
        while " ready: " not in (said := log.read_text()):
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(said)
            time.sleep(0.05)
        address = said.partition(" ready: ")[2].split()[0]
        with urllib.request.urlopen(address, timeout=SECONDS) as page:
            return str(page.read().decode())
    finally:
        server.terminate()
        server.wait(SECONDS)


def check(python: str, what: list[str], page: str) -> None:
    """Installs `what` into a new virtualenv of `python` and serves the page in both ways."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        env = folder / "env"
        subprocess.run([python, "-m", "venv", env], check=True)
        pip = [str(env / "bin/python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--disable-pip-version-check", *what], check=True)
        (folder / "page.py").write_text(page)
        for command in ([str(env / "bin/myserver")], [str(env / "bin/python"), "-m", "myserver"]):
            said = serve(command, folder)
            assert said == f"{env} 6", said


def main(arguments: list[str]) -> int:
    """The exit status."""
    dist, pythons = Path(arguments[0]), arguments[1:]
    failed = 0
    for python in pythons:
        code = "import sys; print('%d%d' % sys.version_info[:2])"
        version = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        (wheel,) = dist.glob(f"*-cp{version}-cp{version}-manylinux*.whl")
        (sdist,) = dist.glob("*.tar.gz")
        for name, what, page in (
            ("wheel", [str(wheel), *NEIGHBOURS], PAGE),
            ("sdist", ["--no-binary", "myserver-wsgi", str(sdist)], BARE),
        ):
            try:
                check(python, what, page)
                result = "passed"
            except (RuntimeError, AssertionError, OSError, subprocess.CalledProcessError) as error:
                result = f"FAILED: {error}"
                failed += 1
            print(f"{python}: {name}: {result}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
