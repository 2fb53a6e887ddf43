"""Asks the control process of a running server; how the commands find it.

Used by commands, which run in processes of their own; never by a server.
"""

import argparse
import http.client
import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from myserver import commands

_TIMEOUT_S = 10.0
_LISTENS = 0x10000  # of the flags in /proc/net/unix: __SO_ACCEPTCON
_TCP_LISTENS = "0A"


class AskError(Exception):
    """A server cannot be found or does not answer; the text says what to do."""


class Control:
    """The control listener of one server: `address` is (host, port), or the path of a socket."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        self.address = address

    def __str__(self) -> str:
        if isinstance(self.address, str):
            return f"unix:{self.address}"
        return "{}:{}".format(*self.address)

    def ask(self, path: str, method: str = "GET") -> Any:
        """What it answers, read as JSON. AskError: it does not, or says no."""
        _, body = self.read(path, method)
        try:
            return json.loads(body)
        except ValueError as error:
            raise AskError(f"what control on {self} answers is no JSON: {error}") from None

    def read(self, path: str, method: str = "GET") -> tuple[str, bytes]:
        """The Content-Type and the body of what it answers. AskError as above."""
        client = http.client.HTTPConnection("localhost", timeout=_TIMEOUT_S)
        try:
            with closing(client):
                client.sock = self._connect()
                client.request(method, path)
                response = client.getresponse()
                body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise AskError(f"control on {self} does not answer: {error}") from None
        if response.status != 200:
            text = body.decode(errors="replace").strip()
            raise AskError(f"control on {self} answers {response.status} to {path}: {text}")
        return response.headers.get("Content-Type", ""), body

    def _connect(self) -> socket.socket:
        if not isinstance(self.address, str):
            return socket.create_connection(self.address, _TIMEOUT_S)
        s = socket.socket(socket.AF_UNIX)
        try:
            s.settimeout(_TIMEOUT_S)
            s.connect(self.address)
        except OSError:
            s.close()
            raise
        return s


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options by which `find` finds the server."""
    group = parser.add_argument_group("which server", "without these: the only one that runs")
    group.add_argument(
        "--control",
        metavar="ADDR",
        help="where it listens for control: /PATH, unix:PATH, HOST:PORT",
    )
    group.add_argument("-c", "--config", metavar="FILE.ini", help="the settings that it runs with")


def find(options: argparse.Namespace) -> Control:
    """The server that `add_options` has named. AskError: there is none, or more than one."""
    if options.control:
        return Control(_parse(options.control, "."))
    if options.config:
        return _by_config(options.config)
    found = list(_running())
    if len(found) == 1:
        return found[0]
    if found:
        listed = "".join(f"\n  --control {control}" for control in found)
        raise AskError(f"more than one server runs; name one of them:{listed}")
    raise AskError(
        "no server with the option control runs that this user may ask; set it, for instance "
        "control = /run/myserver/control.sock, or name the address with --control"
    )


def _parse(text: str, directory: str) -> tuple[str, int] | str:
    if text.startswith(("unix:", "/")):
        path = text.removeprefix("unix:")
        return str(Path(directory, path).resolve()) if len(path) > 0 else path
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        raise AskError(f"{text} is no address: give /PATH, unix:PATH or HOST:PORT")
    host = host.strip("[]")
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port)  # noqa: S104


def _by_config(path: str) -> Control:
    try:
        command = [commands.program(), "-c", path, "--print-config"]
    except FileNotFoundError as error:
        raise AskError(str(error)) from None
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise AskError(run.stderr.strip().removeprefix("myserver: "))
    settings = dict(re.findall(r"^(control|chdir) = (\S+)", run.stdout, re.M))
    if "control" not in settings:
        raise AskError(f"{path} does not set control: set it and restart the server")
    return Control(_parse(settings["control"], settings.get("chdir", ".")))


# ---- what runs on this machine


def _running() -> Iterator[Control]:
    """Every control listener that this user may ask."""
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            stat = (process / "stat").read_bytes() if process.name.isdigit() else b""
            if b"(myserver:contro" in stat:
                yield from filter(_answers, _listeners(process))


def _listeners(process: Path) -> Iterator[Control]:
    sockets = {os.readlink(entry) for entry in (process / "fd").iterdir()}
    for line in (process / "net/unix").read_text(errors="replace").splitlines()[1:]:
        _, _, _, flags, _, _, inode, *path = line.split(None, 7)
        if path and int(flags, 16) & _LISTENS and f"socket:[{inode}]" in sockets:
            yield Control(str(Path(os.readlink(process / "cwd"), path[0])))
    for name, size in (("tcp", 4), ("tcp6", 16)):
        for line in (process / "net" / name).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _TCP_LISTENS and f"socket:[{fields[9]}]" in sockets:
                yield Control(_tcp_address(fields[1], size))


def _tcp_address(text: str, size: int) -> tuple[str, int]:
    """From the form of /proc/net/tcp: words of 32 bits as this machine has them."""
    address, _, port = text.partition(":")
    words = bytes.fromhex(address)
    raw = b"".join(words[i : i + 4][::-1] for i in range(0, size, 4))
    host = socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, raw)
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port, 16)  # noqa: S104


def _answers(control: Control) -> bool:
    """Whether it speaks HTTP: the other listener of that process, `stats`, does not."""
    try:
        control.ask("/profile")
    except AskError as error:
        return " answers " in str(error)
    return True
