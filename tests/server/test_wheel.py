"""The wheel: built by `make wheel`, installed into virtualenvs of each kind, and serving from there."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import APPS, FLAVOUR, ROOT, Server, environment
from test_reload import reload
from test_upgrade import end, upgrade
from wire import ask

pytestmark = [
    pytest.mark.skipif(FLAVOUR != "release", reason="wheels are of the release build"),
    pytest.mark.timeout(900),  # it compiles, and waits for others that do
]

Start = Callable[..., Server]
MAX_BYTES = 2_000_000

WHERE = """\
import sys, myserver
def application(environ, start_response):
    start_response("200 OK", [])
    return ["\\n".join((sys.prefix, sys.executable, myserver.__file__)).encode()]
"""


def run(*command: str | Path, **more: str) -> str:
    """What it prints; its errors are shown when it fails."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "PIP_"))}
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, env=env | more, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for the Python of the tests."""
    dist = tmp_path_factory.mktemp("dist")
    with (ROOT / "build" / "wheel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # all that run tests have one build/wheel
        run("make", "wheel", f"PYTHON={sys.executable}", f"DIST={dist}", f"WHEEL={dist}/files")
    (made,) = dist.glob("*.whl")
    return made


def make_env(how: str, made: Path, wheel: Path) -> Path:
    """A new virtualenv, by one of the tools that make them, in which the wheel is installed."""
    key = sysconfig.get_config_var("VERSION")
    tools = next((ROOT / "build").glob(f"packagers-{key}*")) / "bin"
    base = str(Path(sys._base_executable).resolve())  # type: ignore[attr-defined]
    if how == "uv":
        run(tools / "uv", "venv", "--offline", "--python", base, made)
        run(tools / "uv", "pip", "install", "--offline", "--python", made / "bin/python", wheel)
        return made
    if how == "virtualenv":
        run(tools / "virtualenv", "--no-download", "--python", base, made)
    else:
        run(base, "-m", "venv", *(["--copies"] if how == "copies" else []), made)
    run(made / "bin/python", "-m", "pip", "install", "--no-index", wheel)
    return made


@pytest.fixture(scope="module")
def env(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtualenv of the standard library's venv with the wheel."""
    return make_env("venv", tmp_path_factory.mktemp("venv") / "env", wheel)


def serve(server: Start, program: Path, **options: object) -> Server:
    """A server from that program, whose page says where it runs; no virtualenv is named."""
    s = server("where", start=False, binary=program, virtualenv=None, **options)
    (s.dir / "where.py").write_text(WHERE)
    return s.start()


def check_where(s: Server, env: Path) -> None:
    """The server runs in that virtualenv, with the package that lies in it."""
    prefix, executable, package = ask(s, "/").text.splitlines()
    assert prefix == str(env)
    assert Path(executable).parent == env / "bin"
    assert Path(package).is_relative_to(env / "lib")


def test_size_and_tag(wheel: Path) -> None:
    """For every Linux with a glibc that is not older than that of this machine."""
    assert wheel.stat().st_size < MAX_BYTES
    version = f"cp{sysconfig.get_config_var('py_version_nodot')}"
    assert f"-{version}-{version}-manylinux_2_" in wheel.name


def test_serves_its_virtualenv(server: Start, env: Path) -> None:
    """Without any setting, though another virtualenv is active."""
    check_where(serve(server, env / "bin/myserver", env={"VIRTUAL_ENV": "/elsewhere"}), env)


@pytest.mark.parametrize("how", ["virtualenv", "uv", "copies"])
def test_serves_a_virtualenv_of(server: Start, how: str, wheel: Path, tmp_path: Path) -> None:
    """Every tool lays them out a little differently."""
    made = make_env(how, tmp_path / "env", wheel)
    check_where(serve(server, made / "bin/myserver"), made)


def test_serves_through_a_link(server: Start, env: Path, tmp_path: Path) -> None:
    """As pipx and system administrators link programs into a directory of $PATH."""
    (tmp_path / "myserver").symlink_to(env / "bin/myserver")
    check_where(serve(server, tmp_path / "myserver"), env)


def test_python_m_myserver(server: Start, env: Path) -> None:
    """It becomes the program: no process stays behind it."""
    s = server("where", start=False, binary=env / "bin/python", virtualenv=None)
    s.command[1:1] = ["-m", "myserver"]
    (s.dir / "where.py").write_text(WHERE)
    check_where(s.start(), env)
    assert Path(f"/proc/{s.pid}/exe").resolve() == env / "bin/myserver"


def test_names_another_virtualenv(server: Start, env: Path, tmp_path: Path) -> None:
    """One that has no copy of the program: it is served by this one."""
    other = tmp_path / "other"
    run(sys.executable, "-m", "venv", "--without-pip", other)
    s = server("where", start=False, binary=env / "bin/myserver", virtualenv=other)
    (s.dir / "where.py").write_text(WHERE)
    prefix, _, package = ask(s.start(), "/").text.splitlines()
    assert prefix == str(other)
    assert Path(package).is_relative_to(env)


def test_reload_and_upgrade(server: Start, env: Path) -> None:
    """The signals of a deploy find the same files again."""
    s = serve(server, env / "bin/myserver")
    reload(s, 2)
    check_where(s, env)
    master = upgrade(s)
    check_where(s, env)
    end(s, master)


def test_a_foreign_package_of_our_name(env: Path) -> None:
    """Another distribution that has overwritten the package: the sentence says what to do."""
    (packages,) = (env / "lib").glob("python*/site-packages")
    ours = packages / "myserver" / "__init__.py"
    kept = ours.read_bytes()
    ours.write_text("# a toy of the same name\n")
    try:
        done = subprocess.run(
            [env / "bin/myserver", "--check-config", "--pythonpath", APPS, "hello"],
            env=environment({}),
            capture_output=True,
            text=True,
        )
    finally:
        ours.write_bytes(kept)
    assert done.returncode == 2
    assert "another distribution" in done.stderr
    assert "install this one again" in done.stderr


def test_installed_with_target(wheel: Path) -> None:
    """A directory that is no virtualenv, and near the root: both ways to start it find the other half."""
    with tempfile.TemporaryDirectory() as name:
        base = str(Path(sys._base_executable).resolve())  # type: ignore[attr-defined]
        run(sys.executable, "-m", "pip", "install", "--no-index", "--target", name, wheel)
        assert "myserver" in run(f"{name}/bin/myserver", "--version")
        assert "myserver" in run(base, "-m", "myserver", "--version", PYTHONPATH=name)


def test_the_program_without_its_engine(env: Path, tmp_path: Path) -> None:
    """Copied somewhere: it says what is missing, and names no Python that it is not built for."""
    shutil.copy(env / "bin/myserver", tmp_path)
    base = Path(sys._base_executable).resolve().parent  # type: ignore[attr-defined]
    done = subprocess.run(
        [tmp_path / "myserver", "hello"],
        env=environment({"PATH": str(base)}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert re.fullmatch(
        rf"myserver: engine-3\.\d+\.so, .* belongs to {tmp_path}/myserver: .*\n", done.stderr
    )


def test_building_without_a_compiler(tmp_path: Path) -> None:
    """pip shows what the build says: a sentence with the packages, and no traceback."""
    key = sysconfig.get_config_var("VERSION")
    python = next((ROOT / "build").glob(f"packagers-{key}*")) / "bin/python"
    done = subprocess.run(
        [python, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "make: No such file or directory. To build myserver from source takes" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "change, said",
    [
        ("sysconfig.get_config_var = lambda name: 'x86_64-pc-linux-musl'", "linked with musl"),
        ("sys.abiflags = 't'", "free-threaded, which is not supported yet"),
        ("sys.version_info = (3, 10, 1)", "is 3.10.1; CPython 3.11 or newer is needed"),
    ],
)
def test_pythons_that_are_not_built_for(tmp_path: Path, change: str, said: str) -> None:
    """make ends with a sentence before it compiles anything."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys, sysconfig; sysconfig.get_config_vars(); {change}; $2"\n'
    )
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "-n", f"PYTHON={python}", "all"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert said in done.stderr


# ---- Pythons that cannot be served


def refused(env: Path, home: Path, version: str, tmp_path: Path) -> str:
    """What the program says to a virtualenv of the Python in `home`."""
    (tmp_path / "v").mkdir(exist_ok=True)
    (tmp_path / "v" / "pyvenv.cfg").write_text(f"home = {home}\nversion = {version}.0\n")
    done = subprocess.run(
        [env / "bin/myserver", "--virtualenv", tmp_path / "v", "hello"],
        env=environment({}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    return done.stderr


def test_no_libpython(env: Path, tmp_path: Path) -> None:
    """The packages that have it are named, for each kind of system."""
    version = sysconfig.get_config_var("VERSION")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / f"python{version}").write_text("")
    said = refused(env, tmp_path / "bin", version, tmp_path)
    for word in (f"libpython{version}", "Debian", "Fedora", "conda", "--enable-shared"):
        assert word in said


@pytest.mark.parametrize("left", ["nothing", "newer"])
def test_a_python_that_is_gone(env: Path, tmp_path: Path, left: str) -> None:
    """As after an upgrade of the system: the virtualenv is to be made again."""
    version = sysconfig.get_config_var("VERSION")
    (tmp_path / "bin").mkdir()
    (tmp_path / "v/bin").mkdir(parents=True)
    (tmp_path / "v/bin/python").symlink_to(tmp_path / "bin/python3")
    if left == "newer":
        (tmp_path / "bin/python3").symlink_to("python3.99")
        (tmp_path / "bin/python3.99").write_text("")
    said = refused(env, tmp_path / "bin", version, tmp_path)
    assert f"the Python {version} that it was made with is no longer in {tmp_path}/bin" in said
    assert f"python3 -m venv --clear {tmp_path}/v" in said


def test_free_threaded(env: Path, tmp_path: Path) -> None:
    """One clear sentence."""
    version = sysconfig.get_config_var("VERSION")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / f"python{version}t").write_text("")
    (tmp_path / "bin" / f"python{version}").symlink_to(f"python{version}t")
    assert "free-threaded Python, which is not supported" in refused(
        env, tmp_path / "bin", version, tmp_path
    )
