"""The program where it ends up: installed below a prefix, behind the nginx of conf/."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
from collections.abc import Callable
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from harness import BINARY, FLAVOUR, ROOT, Server, can_connect, free_port, wait_for
from wire import ask

Start = Callable[..., Server]

WHERE = """\
import json, myserver
def application(environ, start_response):
    start_response("200 OK", [])
    names = ("HTTP_HOST", "REMOTE_ADDR", "wsgi.url_scheme")
    return [json.dumps([myserver.__file__, *(environ.get(name) for name in names)]).encode()]
"""


def where(server: Start, **options: object) -> Server:
    """A server whose application says where its package lies and what nginx has told."""
    s = server("where", start=False, **options)
    (s.dir / "where.py").write_text(WHERE)
    return s.start()


# ---- make install


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The prefix, below DESTDIR, of what `make install` has put there; it builds nothing."""
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))
    }
    program = [f"BIN={BINARY}", "-o", str(BINARY), f"FLAVOUR={FLAVOUR}"]
    place = [f"DESTDIR={tmp_path}", "PREFIX=/opt/ours"]
    subprocess.run(
        ["make", "install", *program, *place], cwd=ROOT, env=env, check=True, capture_output=True
    )
    return tmp_path / "opt/ours"


def files(directory: Path) -> set[str]:
    """What is below it, without what Python keeps there for itself."""
    paths = (p for p in directory.rglob("*") if p.is_file() and p.parent.name != "__pycache__")
    return {str(path.relative_to(directory)) for path in paths}


def test_installed_program(server: Start, installed: Path) -> None:
    """It serves from there, with the package that was installed with it."""
    s = where(server, binary=installed / "bin/myserver")
    package = Path(ask(s, "/").json()[0]).parent
    assert package == installed / "lib/myserver/python/myserver"
    assert files(package.parent) == files(ROOT / "python")
    assert {"myserver/load.py", "myserver/py.typed", "_myserver.pyi"} <= files(package.parent)
    page = (installed / "share/man/man1/myserver.1").read_bytes()
    assert page == (ROOT / "conf/myserver.1").read_bytes()
    assert (installed / "share/doc/myserver/myserver.ini").exists()
    assert (installed / "share/doc/myserver/OPTIONS.md").exists()


# ---- conf/nginx.conf


def certificate(directory: Path) -> tuple[Path, Path]:
    """One that nobody vouches for, and its key."""
    made = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=shop"]
    command += ["-out", made[0], "-keyout", made[1]]  # type: ignore[list-item]
    subprocess.run(command, check=True, capture_output=True)
    return made


def site(directory: Path, upstream: object, plain: int, tls: int) -> Path:
    """conf/nginx.conf with the ports and paths of this test, in a http block."""
    cert, key = certificate(directory)
    text = (ROOT / "conf/nginx.conf").read_text()
    for old, new in (
        ("unix:/run/shop/myserver.sock", f"unix:{upstream}"),
        ("/etc/ssl/shop.example.com.pem", cert),
        ("/etc/ssl/private/shop.example.com.key", key),
        ("/srv/shop", directory),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ", f"listen 127.0.0.1:{tls} "),
    ):
        assert old in text
        text = text.replace(old, str(new))
    text = re.sub(r" *listen \[::\]:.*\n", "", text)
    user = "user root;\n" if os.geteuid() == 0 else ""
    paths = "".join(
        f"{name}_temp_path {directory}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
    )
    head = (
        f"daemon off;\n{user}pid {directory}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}"
    )
    path = directory / "nginx.conf"
    path.write_text(f"{head}{text}}}\n")
    return path


def test_nginx_conf(server: Start, tmp_path: Path) -> None:
    """nginx accepts it, serves files, and tells the application who asks, and how."""
    s = where(server, binds=["unix:app.sock"])
    plain, tls = free_port(), free_port()
    conf = site(tmp_path, s.address, plain, tls)
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "a.css").write_text("a {}")
    command = ["nginx", "-c", str(conf), "-e", str(tmp_path / "error.log")]
    env = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"}
    subprocess.run([*command, "-t"], env=env, check=True)
    nginx = subprocess.Popen(command, env=env)
    try:
        wait_for(lambda: can_connect(("127.0.0.1", tls)), what="nginx")
        context = ssl._create_unverified_context()
        client = HTTPSConnection("127.0.0.1", tls, timeout=30, context=context)
        client.request("GET", "/", headers={"Host": "shop", "X-Forwarded-For": "6.6.6.6"})
        assert client.getresponse().read().endswith(b', "shop", "127.0.0.1", "https"]')
        client.request("GET", "/static/a.css")
        assert client.getresponse().read() == b"a {}"
        client.close()
        with socket.create_connection(("127.0.0.1", plain), 30) as c:
            c.sendall(b"GET /x HTTP/1.0\r\nHost: shop\r\n\r\n")
            assert b"Location: https://shop/x\r\n" in c.recv(4096)
    finally:
        nginx.terminate()
        nginx.wait(10)
