#!/usr/bin/env python3
"""Counts the instructions of one hello request in a worker, with callgrind.

Unlike time, the count is the same on a busy machine: two runs that differ only in their number of
requests are subtracted, so that starting and warming cancel out. `--check` compares with
benchmarks/results/instructions.json and fails when a request costs over 2 % more; `--save` writes
it. The interpreter's and the C library's instructions are among them: a check with other versions
of those than the file's says so, and compares nothing.
"""

import argparse
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/instructions.json"
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"
BROWSER = (
    b"GET /shop/?page=2 HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-For: 203.0.113.7\r\n"
    b"X-Forwarded-Proto: https\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101\r\n"
    b"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en\r\nAccept-Encoding: gzip, br\r\n"
    b"Cookie: sessionid=0123456789abcdef; csrftoken=fedcba9876543210\r\n\r\n"
)
ALLOWED_GROWTH = 1.02
READY_S = 300  # under valgrind, also beside other work


def read_answer(client: socket.socket) -> None:
    """Reads one answer with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    match = re.search(rb"(?i)content-length: (\d+)", head)
    assert head.startswith(b"HTTP/1.1 200") and match, head
    while len(body) < int(match[1]):
        body += client.recv(65536)


def ask_often(port: int, request: bytes, times: int) -> None:
    """The same request on one connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        for _ in range(times):
            client.sendall(request)
            read_answer(client)


def port_of(log: str) -> int:
    """Where a server listens, by its log."""
    found = re.search(r"listening on 127\.0\.0\.1:(\d+)", log)
    assert found, log
    return int(found[1])


def count(program: Path, request: bytes, requests: int, profile_rate: int, observe: bool) -> int:
    """Instructions of the worker over `requests` requests on one connection."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out.%p",
                 str(program), "--workers=1", "--bind=127.0.0.1:0", "--prewarm-rounds=25",
                 f"--profile-rate={profile_rate}", f"--observe={'true' if observe else 'false'}",
                 f"--chdir={ROOT}/tests/apps", "hello"],
                stderr=stderr, env={**os.environ, "PYTHONHASHSEED": "0"},
            )  # fmt: skip
        try:
            deadline = time.monotonic() + READY_S
            while "ready:" not in (text := log.read_text()):
                if time.monotonic() > deadline:
                    sys.exit(f"the server was not ready after {READY_S} s:\n{text}")
                time.sleep(0.1)
            port = port_of(text)
            worker = int(re.search(r"worker 1 \(pid (\d+)\) serves", text)[1])
            ask_often(port, request, requests)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)
        profile = Path(directory, f"out.{worker}").read_text()
        return int(re.search(r"^(?:summary|totals): (\d+)", profile, re.M)[1])


def measure(program: Path, profile_rate: int = 0, observe: bool = False) -> dict[str, int]:
    """Instructions of one request of each kind."""
    few, many = 500, 2500
    kinds = {"hello": REQUEST, "browser": BROWSER}
    with ThreadPoolExecutor() as pool:
        runs = {
            name: [
                pool.submit(count, program, request, times, profile_rate, observe)
                for times in (few, many)
            ]
            for name, request in kinds.items()
        }
    return {
        name: (more.result() - less.result()) // (many - few) for name, (less, more) in runs.items()
    }


def built_with(program: Path) -> str:
    """What the counts depend on beside our code."""
    command = [program, "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    compiler = subprocess.run(
        ["readelf", "--string-dump=.comment", program], capture_output=True, text=True, check=True
    )
    found = re.search(r"GCC: .*", compiler.stdout)
    libc = " ".join(platform.libc_ver())
    gcc = found[0] if found else "another compiler"
    python = f"CPython {platform.python_version()}"  # the one that `make` builds for
    return f"{said.strip()}, {python}, {gcc}, {libc}, {platform.machine()}"


def compare(found: dict[str, int], versions: str) -> int:
    """The exit status of a check."""
    known = json.loads(RESULT.read_text())
    if known.pop("built_with") != versions:
        print(f"not compared: {RESULT.name} is of other versions than {versions}")
        return 0
    worse = [name for name in found if found[name] > known[name] * ALLOWED_GROWTH]
    for name in worse:
        print(f"{name}: was {known[name]}: find out why, or --save with the reason")
    return 1 if worse else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, default=ROOT / "build/myserver")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--save", action="store_true")
    parser.add_argument(
        "--profile-rate",
        type=int,
        default=0,
        help="the sampler looks by the clock, and valgrind makes all slow: its looks are counted too",
    )
    parser.add_argument(
        "--observe",
        action="store_true",
        help="count the account of the views, too; it reads clocks by time, as above",
    )
    args = parser.parse_args()
    found = measure(args.program, args.profile_rate, args.observe)
    versions = built_with(args.program)
    for name, instructions in found.items():
        print(f"{name}: {instructions} instructions a request")
    if args.save:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps({"built_with": versions, **found}, indent=4) + "\n")
    return compare(found, versions) if args.check else 0


if __name__ == "__main__":
    sys.exit(main())
