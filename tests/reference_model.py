"""A strict reader of HTTP/1.x requests, written from the RFCs alone, to compare the server with.

It sees all bytes of a connection at once and uses regular expressions where the server counts
bytes, so that the two share no mistake. Where the RFCs leave a choice that the server may make
either way, it says so: `may_refuse`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110 5.6.2
TARGET = rb"[!\"$-~]+"  # visible ASCII without '#'
VALUE = rb"[\t\x20-\x7e\x80-\xff]*"  # RFC 9110 5.5
REG_NAME = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+"  # RFC 3986 3.2.2

REQUEST_LINE = re.compile(rb"(%b) (%b) HTTP/([0-9])\.([0-9])" % (TOKEN, TARGET))
FIELD_LINE = re.compile(rb"(%b):[ \t]*(%b?)[ \t]*" % (TOKEN, VALUE), re.DOTALL)
AUTHORITY = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|%b)(?::[0-9]*)?" % REG_NAME)
ABSOLUTE = re.compile(rb"https?://([^/?]*)([^?]*)(?:\?(.*))?", re.IGNORECASE)
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)(.*)")
SIMPLE_EXTENSION = re.compile(rb";%b(?:=%b)?" % (TOKEN, TOKEN))

CONTINUE = b"100-continue"
ONCE = {b"content-length", b"content-type", b"host", b"transfer-encoding"}

LINE_BYTES = 300
FIELD_BYTES = 300
HEAD_BYTES = 1000
FIELDS = 20
BODY_BYTES = 100_000


@dataclass
class Request:
    """One request as an application would see it."""

    minor: int
    method: bytes
    target: bytes
    path: bytes = b""
    query: bytes = b""
    host: bytes = b""
    keep_alive: bool = False
    expects_continue: bool = False
    chunked: bool = False
    body: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    may_refuse: bool = field(default=False, compare=False)


@dataclass
class Result:
    """All requests of a connection and its end: idle, more, closed, or refused with a status."""

    requests: list[Request] = field(default_factory=list)
    end: str = "idle"
    status: int = 0
    may_refuse: bool = False  # what follows the requests so far


class Refused(Exception):
    """The answer is a refusal."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Incomplete(Exception):
    """The rest has not come."""


class Reader:
    """The bytes of a connection, and how far they are read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.result = Result()
        self.line_limit: tuple[int, int] = (LINE_BYTES, 414)
        self.head_start = 0

    def line(self) -> bytes:
        """The next line of a head, without its CRLF."""
        end = self.data.find(b"\n", self.at)
        text = self.data[self.at : end if end >= 0 else len(self.data)]
        limit, status = self.line_limit
        if len(text) > limit + 1:
            raise Refused(status)
        if status == 431 and self.at + len(text) - self.head_start >= HEAD_BYTES:
            raise Refused(431)
        if end < 0:
            raise Incomplete
        if not text.endswith(b"\r"):
            raise Refused(400)
        self.at = end + 1
        return text[:-1]

    def take(self, count: int) -> bytes:
        """The next bytes of a body."""
        if len(self.data) - self.at < count:
            raise Incomplete
        self.at += count
        return self.data[self.at - count : self.at]


def is_authority(text: bytes) -> bool:
    """RFC 9110 7.2, without user information and not empty."""
    match = AUTHORITY.fullmatch(text)
    if not match:
        return False
    try:
        return match[1] is None or bool(ipaddress.IPv6Address(match[1].decode()))
    except ValueError:
        return False


def read_request_line(reader: Reader) -> Request:
    """RFC 9112 3, behind at most two empty lines."""
    reader.line_limit = (LINE_BYTES, 414)
    for _ in range(3):
        first = reader.data[reader.at : reader.at + 1]
        if first not in (b"", b"\r") and not re.match(TOKEN, first):
            raise Refused(400)
        line = reader.line()
        if line:
            break
        reader.head_start = reader.at
    else:
        raise Refused(400)
    match = REQUEST_LINE.fullmatch(line)
    if not match:
        raise Refused(400)
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in b"01":
        is_preface = (method, major, minor) == (b"PRI", b"2", b"0")  # RFC 9113 3.4
        raise Refused(400 if is_preface else 505)
    if method == b"CONNECT":  # RFC 9110 9.3.6: for proxies
        raise Refused(501)
    request = Request(int(minor), method, target)
    read_target(request)
    return request


def read_target(request: Request) -> None:
    """RFC 9112 3.2."""
    if request.target.startswith(b"/"):
        request.path, _, request.query = request.target.partition(b"?")
    elif request.target == b"*":
        if request.method != b"OPTIONS":
            raise Refused(400)
    else:
        match = ABSOLUTE.fullmatch(request.target)
        if not match or not is_authority(match[1]):
            raise Refused(400)
        request.host, request.path, request.query = match[1], match[2] or b"/", match[3] or b""


def read_fields(reader: Reader, request: Request) -> dict[bytes, bytes]:
    """The header lines. Returns those that may stand once, by their small names."""
    seen: dict[bytes, bytes] = {}
    reader.line_limit = (FIELD_BYTES, 431)
    count = 0
    while line := reader.line():
        count += 1
        if count > FIELDS:
            raise Refused(431)
        match = FIELD_LINE.fullmatch(line)
        if not match:
            raise Refused(400)
        name, value = match[1], match[2].strip(b" \t")
        small = name.lower()
        if small in ONCE and small in seen:
            raise Refused(400)
        note_field(request, small, value)
        # RFC 9110 5.5 allows a HTAB behind the number or the coding; not everybody takes it.
        framing = small in (b"content-length", b"transfer-encoding")
        reader.result.may_refuse |= framing and b"\t" in line
        if small == b"connection" and small in seen:
            seen[small] += b"," + value
        elif small != b"expect" or seen.get(small, CONTINUE).lower() == CONTINUE:
            seen[small] = value  # an unknown expectation stays
        if b"_" not in name:
            replaced = small == b"host" and not request.target.startswith((b"/", b"*"))
            request.headers.append((name, request.host if replaced else value))
    return seen


def note_field(request: Request, small: bytes, value: bytes) -> None:
    """What a single field can be refused for."""
    if small == b"content-length" and not re.fullmatch(rb"[0-9]+", value):
        raise Refused(400)
    if small == b"host":
        if value and not is_authority(value):
            raise Refused(400)
        if request.target.startswith((b"/", b"*")):
            request.host = value


def check_head(request: Request, seen: dict[bytes, bytes]) -> int:
    """RFC 9112 6.3. Returns the length of the body, -1 for chunked."""
    options = [o.strip(b" \t").lower() for o in seen.get(b"connection", b"").split(b",")]
    request.keep_alive = b"close" not in options and (
        request.minor == 1 or b"keep-alive" in options
    )
    if request.minor == 1 and b"host" not in seen:
        raise Refused(400)
    length = int(seen.get(b"content-length", b"0"))
    coding = seen.get(b"transfer-encoding")
    if coding is not None:
        if request.minor == 0 or b"content-length" in seen:
            raise Refused(400)
        if coding.lower() != b"chunked":
            raise Refused(coding_status(coding))
        request.chunked = True
    if length > BODY_BYTES:
        raise Refused(413)
    if request.minor == 1 and b"expect" in seen:
        if seen[b"expect"].lower() != CONTINUE:
            raise Refused(417)
        request.expects_continue = request.chunked or length > 0
    return -1 if request.chunked else length


def coding_status(value: bytes) -> int:
    """400 for a malformed list and for what follows chunked, 501 for a list that is none of ours."""
    codings = [coding.strip(b" \t").lower() for coding in value.split(b",")]
    if not all(re.fullmatch(TOKEN, coding) for coding in codings) or b"chunked" in codings[:-1]:
        return 400
    return 501


def read_chunked(reader: Reader) -> bytes:
    """RFC 9112 7.1. Extensions beyond the simplest and trailers may be refused."""
    body = b""
    while True:
        line = body_line(reader)
        match = CHUNK_LINE.fullmatch(line)
        if not match:
            raise Refused(400)
        if match[2] and not SIMPLE_EXTENSION.fullmatch(match[2]):
            reader.result.may_refuse = True
            if not re.fullmatch(rb"[ \t]*;%b" % VALUE, match[2], re.DOTALL):
                raise Refused(400)
        size = int(match[1], 16)
        if len(body) + size > BODY_BYTES:
            raise Refused(413 if size < 1 << 64 else 400)
        if size == 0:
            break
        body += reader.take(size)
        if not b"\r\n".startswith(reader.data[reader.at : reader.at + 2]):
            raise Refused(400)
        reader.take(2)
    count = 0
    while line := body_line(reader):
        count += 1
        reader.result.may_refuse = True
        match = FIELD_LINE.fullmatch(line)
        if not match or match[1].lower() == b"content-length":  # RFC 9110 6.5.1
            raise Refused(400)
        if count > FIELDS or len(line) > FIELD_BYTES:
            raise Refused(431)
    return body


def body_line(reader: Reader) -> bytes:
    """A line inside a chunked body."""
    end = reader.data.find(b"\n", reader.at)
    if end < 0:
        reader.result.may_refuse = True  # what is already wrong with it need not be waited for
        raise Incomplete
    text = reader.data[reader.at : end]
    if not text.endswith(b"\r"):
        raise Refused(400)
    reader.at = end + 1
    return text[:-1]


def read_request(reader: Reader) -> Request:
    """The next request, whole."""
    reader.head_start = reader.at
    request = read_request_line(reader)
    length = check_head(request, read_fields(reader, request))
    request.body = read_chunked(reader) if length < 0 else reader.take(length)
    request.may_refuse = reader.result.may_refuse
    return request


def read_all(data: bytes) -> Result:
    """Everything that comes on one connection."""
    reader = Reader(data)
    result = reader.result
    try:
        while True:
            result.may_refuse = False
            start = reader.at
            request = read_request(reader)
            result.requests.append(request)
            if not request.keep_alive:
                result.end = "closed"
                return result
    except Refused as refusal:
        result.end, result.status = "refused", refusal.status
    except Incomplete:
        rest = data[start:]
        result.end = "idle" if rest in (b"", b"\r\n", b"\r\n\r\n") else "more"
    return result
