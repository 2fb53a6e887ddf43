"""The server's reading of requests against that of the reference model, on mutated requests.

MYSERVER_DIFFERENTIAL is the number of inputs; what differs belongs into tests/requests.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess

import pytest

from harness import BINARY, REQUESTS, sanitizer_env
from reference_model import Request, Result, read_all

PROGRAM = BINARY.resolve().parent / "unit" / "http_results"


def seeds(kind: str) -> list[bytes]:
    """The raw requests of the other tests, but the very long ones."""
    found = [path.read_bytes() for path in sorted(REQUESTS.glob(f"{kind}/*.http"))]
    return [seed for seed in found if len(seed) < 4000]


VALID, SEEDS = seeds("valid"), seeds("*")
COUNT = int(os.environ.get("MYSERVER_DIFFERENTIAL", "20000"))
BATCH = 2000

WORDS = [
    *(bytes([byte]) for byte in b'\r\n\t \0\x0b\x7f\xff:,;=?#*/"\\[]%_0'),
    *(b"\r\n", b"\r\n\r\n", b"\n\n", b" \r\n", b"\r\n ", b"\r\n\t", b": ", b":\r\n", b"0\r\n\r\n"),
    *(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST ", b"HEAD", b"OPTIONS *", b"CONNECT a:1"),
    *(b"QUERY ", b"CONNECT / ", b"PRI ", b"SOURCE ", b"get ", b"!~ "),
    *(b"HTTP/1.0", b"HTTP/1.1", b"HTTP/0.9", b"HTTP/2.0", b"http/1.1", b"HTTP/1.2", b"RTSP/1.0"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding:\r\n", b"Transfer-Encoding: gzip\r\n"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length:\r\n", b"Host: b\r\n"),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n"),
    *(b"chunked", b"identity", b"18446744073709551616", b"FFFFFFFFFFFFFFFF", b"5;a=b", b"5;a"),
    *(b"http://b/", b"https://[::1]:8/x?y", b"http://", b"//", b"[::1]", b"a@b", b"a:80", b"%zz"),
    *(b"Content_Length: 5\r\n", b"X: a\r\n b\r\n", b"Content-Type: a\r\n", b"0x5", b"+5", b"1_0"),
]


def mutate(chance: random.Random, data: bytes) -> bytes:
    """One change."""
    at = chance.randint(0, len(data))
    end = min(len(data), at + chance.randint(1, 12))
    kind = chance.randrange(7)
    if kind == 0:
        return data[:at] + chance.choice(WORDS) + data[at:]
    if kind == 1:
        return data[:at] + chance.choice(WORDS) + data[end:]
    if kind == 2:
        return data[:at] + data[end:]
    if kind == 3:
        return data[:at] + data[at:end] * 2 + data[end:]
    if kind == 4:
        other = chance.choice(SEEDS)
        return data[:at] + other[chance.randint(0, len(other)) :]
    if kind == 5:
        lines = data.split(b"\r\n")
        lines.insert(chance.randint(0, len(lines)), chance.choice(WORDS).strip(b"\r\n"))
        return b"\r\n".join(lines)
    lines = data.split(b"\r\n")
    chance.shuffle(lines)
    return b"\r\n".join(lines)


def generate(seed: int, count: int) -> list[bytes]:
    """Requests with a few changes each."""
    chance = random.Random(seed)
    inputs = []
    for _ in range(count):
        data = b"".join(chance.choices(VALID, k=chance.choice((1, 1, 2))))
        if chance.random() < 0.3:
            data = chance.choice(SEEDS)
        for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
            data = mutate(chance, data)
        inputs.append(data[:8000])
    return inputs


def unhex(text: str) -> bytes:
    """A field of a line of the program."""
    return b"" if text == "-" else bytes.fromhex(text)


def parse_line(line: str) -> Result:
    """What the server made of one input."""
    *requests, end = line.split(";", line.count(";")) if ";" in line else [line]
    result = Result()
    for text in requests:
        _, minor, keep, expects, chunked, *rest = text.split(" ")
        method, target, path, query, host, body, *headers = map(unhex, rest)
        pairs = list(zip(headers[::2], headers[1::2], strict=True))
        flags = keep == "1", expects == "1", chunked == "1"
        result.requests.append(
            Request(int(minor), method, target, path, query, host, *flags, body, pairs)
        )
    word, *more = end.split(" ", 2)
    result.end = word
    result.status = int(more[0]) if more else 0
    return result


def ask_server(inputs: list[bytes], piece: int) -> list[Result]:
    """What the server makes of them, in pieces of that size."""
    data = b"".join(struct.pack("=II", len(i), piece) + i for i in inputs)
    env = os.environ | sanitizer_env()
    done = subprocess.run([PROGRAM], input=data, capture_output=True, check=True, env=env)
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(inputs)
    return [parse_line(line) for line in lines]


def difference(ours: Result, model: Result) -> str | None:
    """What is wrong with ours, if anything. It may refuse more where the model says so."""
    count = len(ours.requests)
    if ours.requests != model.requests[:count]:
        return "another request is seen"
    if (count, ours.end, ours.status) == (len(model.requests), model.end, model.status):
        return None
    if ours.end != "refused":
        return "it goes on where the model refuses or waits"
    if count < len(model.requests):
        return None if model.requests[count].may_refuse else "it refuses a good request"
    if model.end == "refused":
        return "another status" if ours.status not in (400, model.status) else None
    return None if model.may_refuse else "it refuses what may become a good request"


@pytest.mark.parametrize("seed", range(max(1, COUNT // BATCH)))
def test_differential(seed: int) -> None:
    """No input is read in another way, whole or in pieces."""
    inputs = generate(seed, min(BATCH, COUNT))
    expected = [read_all(data) for data in inputs]
    for piece in (1 << 30, 1 + seed % 7):
        for data, ours, model in zip(inputs, ask_server(inputs, piece), expected, strict=True):
            wrong = difference(ours, model)
            assert wrong is None, f"{wrong}:\n{data!r}\nours:  {ours}\nmodel: {model}"
