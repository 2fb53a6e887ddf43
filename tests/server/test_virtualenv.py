"""Where Python comes from, and where the application does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import APPS, VENV, Server, StartFailed, run
from wire import ask

Start = Callable[..., Server]

WHERE = """\
import json, os, subprocess, sys, sysconfig
def application(environ, start_response):
    code = "import sys; print(sys.prefix)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = {
        "executable": sys.executable,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "purelib": sysconfig.get_paths()["purelib"],
        "path": sys.path,
        "child": child.stdout.strip(),
        "version": sys.version_info[:3],
    }
    start_response("200 OK", [])
    return [json.dumps(said).encode()]
"""
HELLO = """\
def application(environ, start_response):
    start_response("200 OK", [])
    return [{text!r}]
class Holder:
    @staticmethod
    def app(environ, start_response):
        return application(environ, start_response)
other = application
number = 5
def create_app():
    return application
def create_none():
    return 5
"""


def version_of(venv: Path) -> tuple[int, int]:
    """The minor version that a virtualenv says it is of."""
    text = (venv / "pyvenv.cfg").read_text()
    match = re.search(r"^version(?:_info)? *= *(\d+)\.(\d+)", text, re.M)
    assert match
    return int(match[1]), int(match[2])


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """A new virtualenv of the program's Python, without pip, with one package of its own."""
    if not VENV.exists():
        pytest.skip("there is no virtualenv of the program's Python to make another one from")
    path = tmp_path / "env"
    python = subprocess.run(
        [VENV / "bin" / "python", "-c", "import sys; print(sys._base_executable)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    subprocess.run([python, "-m", "venv", "--without-pip", path], check=True)
    (packages,) = path.glob("lib/python*/site-packages")
    (packages / "only_here.py").write_text(HELLO.format(text=b"only here"))
    return path


def check_where(s: Server, venv: Path) -> None:
    """The interpreter knows that it is in the virtualenv, and so do its children."""
    said = ask(s, "/").json()
    assert said["prefix"] == said["child"] == str(venv)
    assert said["executable"].startswith(str(venv / "bin" / "python"))
    assert said["base_prefix"] != str(venv)
    assert said["purelib"].startswith(str(venv / "lib"))
    assert said["purelib"] in said["path"]
    assert tuple(said["version"][:2]) == version_of(venv)


@pytest.mark.parametrize("how", ["option", "variable", "relative"])
def test_virtualenv(server: Start, venv: Path, how: str) -> None:
    """By the option, by $VIRTUAL_ENV, and by a relative path."""
    if how == "variable":
        s = server("where", start=False, virtualenv=None, env={"VIRTUAL_ENV": str(venv)})
    elif how == "relative":
        s = server("where", start=False, virtualenv="env")
        (s.dir / "env").symlink_to(venv)
    else:
        s = server("where", start=False, virtualenv=venv)
    (s.dir / "where.py").write_text(WHERE)
    s.start()
    check_where(s, s.dir / "env" if how == "relative" else venv)


def test_packages_of_the_virtualenv(server: Start, venv: Path) -> None:
    """An application may live in it."""
    assert ask(server("only_here", virtualenv=venv), "/").text == "only here"


def test_option_wins_over_variable(server: Start, venv: Path) -> None:
    """The command line says it last."""
    s = server("where", start=False, virtualenv=venv, env={"VIRTUAL_ENV": "/nowhere"})
    (s.dir / "where.py").write_text(WHERE)
    check_where(s.start(), venv)


def test_without_virtualenv(server: Start) -> None:
    """The Python that the program was built with."""
    s = server("where", start=False, virtualenv=None)
    (s.dir / "where.py").write_text(WHERE)
    said = ask(s.start(), "/").json()
    assert said["prefix"] == said["base_prefix"] == said["child"]
    assert os.access(said["executable"], os.X_OK)


@pytest.mark.parametrize("preload", ["--preload", "--no-preload"])
@pytest.mark.parametrize("check", [["--check-config"], []], ids=["check", "serve"])
def test_virtualenv_of_another_version(tmp_path: Path, check: list[str], preload: str) -> None:
    """Refused with a sentence that names both versions and the ways out."""
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.99.1\n")
    args = [*check, preload, "--virtualenv", tmp_path, "--pythonpath", APPS, "-b127.0.0.1:0"]
    done = run(*args, "hello")
    assert done.returncode == 2
    assert done.stderr.startswith("myserver: command line: --virtualenv: ")
    for word in (str(tmp_path), "Python 3.99", "python3.99", "built for Python 3."):
        assert word in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["missing", "empty", "nonsense", "file"])
def test_no_virtualenv(tmp_path: Path, what: str) -> None:
    """A directory that is none is refused, with what would make one."""
    path = tmp_path / "env"
    if what == "file":
        path.write_text("")
    elif what != "missing":
        path.mkdir()
    if what == "nonsense":
        (path / "pyvenv.cfg").write_text("\0\xff = x\nversion\n= 3\n" * 10)
    done = run("--check-config", "--virtualenv", path, "--pythonpath", APPS, "hello")
    assert done.returncode == 2
    assert f"virtualenv: {path}: " in done.stderr
    assert ("venv" if what != "nonsense" else "version") in done.stderr


# ---- naming the application


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with applications in modules, packages and files."""
    (tmp_path / "site" / "inner").mkdir(parents=True)
    (tmp_path / "flat.py").write_text(HELLO.format(text=b"flat"))
    (tmp_path / "site" / "wsgi.py").write_text(HELLO.format(text=b"site.wsgi"))
    package = tmp_path / "package"
    package.mkdir()
    (tmp_path / "plain").mkdir()
    (package / "__init__.py").write_text("")
    (package / "wsgi.py").write_text("from . import other\n" + HELLO.format(text=b"package.wsgi"))
    (package / "other.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "app, body",
    [
        ("flat", "flat"),
        ("flat:application", "flat"),
        ("flat:other", "flat"),
        ("flat:Holder.app", "flat"),
        ("flat:create_app()", "flat"),
        ("flat.py:create_app()", "flat"),
        ("package.wsgi", "package.wsgi"),
        ("flat.py", "flat"),
        ("./flat.py:other", "flat"),
        ("site/wsgi.py", "site.wsgi"),
        ("package/wsgi.py", "package.wsgi"),
        ("package/wsgi.py:Holder.app", "package.wsgi"),
        ("{dir}/package/wsgi.py", "package.wsgi"),
    ],
)
def test_names_of_applications(server: Start, project: Path, app: str, body: str) -> None:
    """Modules, files and callables, from the working directory."""
    s = server(app.format(dir=project), chdir=project)
    assert ask(s, "/").text == body


NEEDS = """\
import json, random, site, tempfile, types
assert callable(random.Random) and callable(tempfile.mkdtemp) and site.PREFIXES and json.dumps
assert types.SimpleNamespace and __name__ in sys.modules and pickle.loads(pickle.dumps(Holder)) is Holder
"""


@pytest.mark.parametrize(
    "name",
    "site types random json queue __main__ myserver my.app my-app sys os time builtins test email logging "
    "encodings select wsgi.v2 application load fork _myserver 1st".split(),
)
def test_files_of_any_name(server: Start, tmp_path: Path, name: str) -> None:
    """A path is loaded as that file; libraries get what they ask for, and classes can be pickled."""
    code = "import pickle, sys\n" + HELLO.format(text=name.encode()) + NEEDS
    (tmp_path / f"{name}.py").write_text(code)
    s = server(f"./{name}.py", chdir=tmp_path)
    assert ask(s, "/").text == name
    s = server(f"{tmp_path}/{name}.py:Holder.app", threads=2, preload=False)
    assert ask(s, "/").text == name


@pytest.mark.parametrize("name", "site types random myserver time atexit test".split())
def test_packages_of_any_name(server: Start, tmp_path: Path, name: str) -> None:
    """By path and by name, with what they import from beside themselves."""
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "other.py").write_text(f"NAME = {name!r}")
    code = "from .other import NAME\n" + HELLO.format(text=name.encode())
    (package / "wsgi.py").write_text(code)
    (package / "web.v2.py").write_text(code)
    for app in (
        f"{name}/wsgi.py",
        f"./{name}/web.v2.py",
        f"{name}.wsgi",
        f"{name}.wsgi:create_app()",
    ):
        s = server(app, chdir=tmp_path)
        assert ask(s, "/").text == name, app
        assert s.stop() == 0


@pytest.mark.parametrize("name", ["random", "types", "myserver"])
def test_modules_of_any_name(server: Start, tmp_path: Path, name: str) -> None:
    """A name that the standard library has too means the project's."""
    (tmp_path / f"{name}.py").write_text(HELLO.format(text=name.encode()))
    for s in (server(name, chdir=tmp_path), server(f"{name}:application", pythonpath=tmp_path)):
        assert ask(s, "/").text == name


@pytest.mark.parametrize("where", ["chdir", "pythonpath", "PYTHONPATH"])
def test_project_called_myserver(server: Start, tmp_path: Path, where: str) -> None:
    """It gets its own package; the server's goes on, with its hooks, under another name."""
    package = tmp_path / "myserver"
    package.mkdir()
    (package / "__init__.py").write_text("SAYS = 'of the project'")
    (package / "settings.py").write_text("")
    (package / "wsgi.py").write_text(
        "import myserver, myserver.settings, myserver_api\n"
        "from myserver import SAYS\n"
        "said = []\n"
        "myserver_api.prefork(lambda: said.append('prefork'))\n"
        "myserver_api.postfork(lambda: said.append('postfork'))\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    if 'wait' in environ['QUERY_STRING']:\n"
        "        while True: pass\n"
        "    return [f'{SAYS} {said} {myserver_api.worker_id()}'.encode()]\n"
    )
    (tmp_path / "wsgi.py").write_text("from myserver.wsgi import application\n")
    places = {"env": {where: str(tmp_path)}} if where.isupper() else {where: tmp_path}
    for name in ("growth", "load"):
        (package / f"{name}.py").write_text(f"print('{name} of the project is imported')")
    control = f"unix:{tmp_path}/control.sock"
    for app in ("myserver.wsgi", f"{tmp_path}/myserver/wsgi.py", "wsgi"):
        s = server(app, timeout="1s", control=control, **places)
        assert ask(s, "/").text == "of the project ['prefork', 'postfork'] 1"
        assert "share less" not in s.log
        traced = run("memory", "--control", control, "--trace=1", "--json")
        assert traced.returncode == 0, traced.stderr
        assert "of the project is imported" not in s.log
        assert ask(s, "/?wait").status == 504
        assert s.log_contains("RequestTimeout")
        assert s.stop() == 0


def test_directory_called_myserver(server: Start, tmp_path: Path) -> None:
    """It is no module: the server's package keeps its name."""
    (tmp_path / "myserver").mkdir()
    (tmp_path / "app.py").write_text(
        "from myserver import postfork\n" + HELLO.format(text=b"hello")
    )
    assert ask(server("app", chdir=tmp_path), "/").text == "hello"


@pytest.mark.parametrize(
    "app, words",
    [
        (
            "nowhere",
            [
                "there is no nowhere.py or nowhere/ in {dir} or on pythonpath: name its "
                "directory with --chdir or --pythonpath"
            ],
        ),
        ("nowhere.wsgi", ["there is no nowhere.py or nowhere/ in {dir} or on pythonpath"]),
        ("package.nowhere", ["there is no nowhere.py or nowhere/ in {dir}/package"]),
        ("flat.nowhere", ["there is no module flat.nowhere: flat is a module, and no package"]),
        (
            "package.wsgi.application",
            ["there is no module package.wsgi.application: did you mean package.wsgi:application"],
        ),
        ("package", ["package is a package without 'application': did you mean package.wsgi"]),
        ("plain", ["plain is a directory, and no module: write MODULE[:CALLABLE] or the path"]),
        (
            "./plain",
            [
                "'./plain' is not the name of a module: write MODULE[:CALLABLE] or the path "
                "of a .py file"
            ],
        ),
        ("package/wsgi", ["'package/wsgi' is not the name of a module"]),
        (".", ["'.' is not the name of a module"]),
        ("nowhere.py", ["there is no file", "nowhere.py"]),
        ("flat:nothing", ["flat has no 'nothing'", "flat:CALLABLE"]),
        ("flat:number", ["is a int", "cannot be called"]),
        ("flat:create_none()", ["flat:create_none() returns a int, which cannot be called"]),
        ("flat:create_app(name)", ["the arguments of a factory are literals: write flat:NAME("]),
        ("flat:create_app(**{})", ["the arguments of a factory are literals"]),
        ("flat:create_app(", ["the arguments of a factory are literals"]),
        ("flat:create_none()()", ["the arguments of a factory are literals"]),
        ("flat:nothing(1)", ["flat has no 'nothing()'"]),
        ("hints", ["(it has app, create_app())"]),
        ("needs", ["No module named 'elsewhere'"]),
        ("broken", ["Traceback", "ZeroDivisionError", "broken.py", "line 2"]),
        ("wrong", ["SyntaxError", "wrong.py"]),
        ("leaves", ["Traceback", "leaves.py", "SystemExit"]),
    ],
)
def test_application_that_cannot_be_loaded(
    server: Start, project: Path, app: str, words: list[str]
) -> None:
    """Exit status 3 and the reason, which begins in the application; also by --check-config."""
    (project / "broken.py").write_text("def f():\n    1 / 0\nf()\n")
    (project / "wrong.py").write_text("def f(:\n")
    (project / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    (project / "hints.py").write_text("def app(): 1\ndef create_app(): 1\n")
    (project / "needs.py").write_text("import elsewhere\n")
    done = run("--check-config", "--chdir", project, app)
    assert done.returncode == 3
    with pytest.raises(StartFailed) as failure:
        server(app, chdir=project, startup_timeout="20s", virtualenv=None)
    assert failure.value.status == 3
    for text in (done.stderr, failure.value.log):
        assert f"the application {app} cannot be loaded" in text
        for word in words:
            assert word.format(dir=project) in text
        assert ("no virtualenv is set" in text) == (app == "needs")


def test_check_config_is_fine(project: Path) -> None:
    """Status 0, one line, and nothing is served or left."""
    before = set(project.rglob("*.py"))
    done = run("--check-config", "--chdir", project, "flat")
    assert (done.returncode, done.stdout) == (
        0,
        "the configuration is right, and the application flat loads\n",
    )
    assert "listening" not in done.stderr
    assert set(project.rglob("*.py")) == before


@pytest.mark.parametrize(
    "option, word",
    [
        ("--access-logformat=%(zz)s", "%(zz)s"),
        ("--access-logformat=%(h", "%(h"),
        ("--forwarded-allow-ips=10.0.0.0/33", "10.0.0.0/33"),
        ("--forwarded-allow-ips=127.0.0.1,nobody", "nobody"),
        ("--bind=nowhere", "nowhere"),
        ("--bind=127.0.0.1:99999", "99999"),
        ("--bind=unix:", "unix:"),
        ("--bind=fd://x", "fd://x"),
        ("--workers=0", "workers"),
        ("--tmp-dir=/nonexistent", "/nonexistent"),
        ("--chdir=/nonexistent", "/nonexistent"),
    ],
)
@pytest.mark.parametrize("check", [["--check-config"], []], ids=["check", "serve"])
def test_bad_settings(option: str, word: str, check: list[str]) -> None:
    """One sentence and exit status 2, before the application is loaded."""
    done = run(*check, option, "--pythonpath", APPS, "nowhere")
    assert done.returncode == 2, done.stderr
    assert option.lstrip("-").split("=")[0] in done.stderr and word in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_python_of_the_tests_is_not_needed() -> None:
    """The program finds its own Python package, wherever it is called from."""
    done = run("--check-config", "--pythonpath", APPS, "hello", cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    assert sys.version_info >= (3, 11)
