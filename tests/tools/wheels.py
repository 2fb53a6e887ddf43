"""Installs wheels and the sdist as a user would, and serves a page with each: `make test-wheels`.

    wheels.py DIST PYTHON...

For each PYTHON: the wheel of its version in DIST, in an environment of venv, of virtualenv and of uv, beside
packages with C in them, all imported by the page that is served; then the sdist, built by pip. A package
that has no wheel for that Python is left out, and named. Prints a table; 1: something failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

NEIGHBOURS = {
    "gevent": "import gevent; gevent.spawn(int).join()",
    "psycopg[binary]": "import psycopg",
    "numpy": "import numpy; assert numpy.arange(4).sum() == 6",
    "cryptography": "import cryptography.hazmat.bindings._rust",
}
PAGE = """\
import sys
def application(environ, start_response):
    start_response("200 OK", [])
    return [sys.prefix.encode()]
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


def make(how: str, python: str, env: Path) -> list[str]:
    """A new environment, by the tool of that name; the command that installs into it."""
    tools = Path(sys.executable).parent
    if how == "uv":
        subprocess.run([tools / "uv", "venv", "--quiet", "--python", python, env], check=True)
        return [str(tools / "uv"), "pip", "install", "--quiet", "--python", str(env / "bin/python")]
    maker = [tools / "virtualenv", "--quiet"] if how == "virtualenv" else [python, "-m", "venv"]
    more = ["--python", python] if how == "virtualenv" else []
    subprocess.run([*maker, *more, env], check=True)
    return [str(env / "bin/python"), "-m", "pip", "install", "--quiet"]


def check(python: str, how: str, what: list[str]) -> str:
    """Installs `what` into a new environment of `python` and serves the page in both ways.

    Returns which neighbours were left out; an sdist has none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        env = folder / "env"
        install = make(how, python, env)
        subprocess.run([*install, *what], check=True)
        lines, left = [], []
        for neighbour, code in NEIGHBOURS.items() if len(what) == 1 else ():
            command = [*install, "--only-binary", ":all:", neighbour]
            if subprocess.run(command, capture_output=True).returncode:
                left.append(neighbour)
            else:
                lines.append(code + "\n")
        (folder / "page.py").write_text("".join(lines) + PAGE)
        for command in ([str(env / "bin/myserver")], [str(env / "bin/python"), "-m", "myserver"]):
            said = serve(command, folder)
            assert said == str(env), said
    return f" (there is no wheel of {', '.join(left)})" if left else ""


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
        for name, how, what in (
            ("wheel", "venv", [str(wheel)]),
            ("wheel", "virtualenv", [str(wheel)]),
            ("wheel", "uv", [str(wheel)]),
            ("sdist", "venv", ["--no-binary", "myserver-wsgi", str(sdist)]),
        ):
            try:
                result = "passed" + check(python, how, what)
            except (RuntimeError, AssertionError, OSError, subprocess.CalledProcessError) as error:
                result = f"FAILED: {error}"
                failed += 1
            print(f"{python}: {name}, {how}: {result}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
