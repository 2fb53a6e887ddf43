"""The slow service of the upstream scenario: answers GET /?ms=N after N milliseconds.

`standin.py PORT`; one process, nothing but timers, so that it is never what is measured.
"""

import asyncio
import re
import sys

WANTED = re.compile(rb"GET /\?ms=(\d+) ")


class Service(asyncio.Protocol):
    """One connection; one request at a time, as HTTP clients do without pipelining."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remembers where to answer."""
        self.transport = transport
        self.head = b""

    def data_received(self, data: bytes) -> None:
        """Sets the timer when the head is whole."""
        self.head += data
        if not self.head.endswith(b"\r\n\r\n"):
            return
        found = WANTED.match(self.head)
        self.head = b""
        wait_ms = min(int(found[1]), 10_000) if found else 0
        asyncio.get_running_loop().call_later(wait_ms / 1000, self.answer, wait_ms)

    def answer(self, waited_ms: int) -> None:
        """The response."""
        if self.transport.is_closing():
            return
        body = b'{"waited_ms": %d}' % waited_ms
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.transport.write(head % len(body) + body)


async def main() -> None:
    """Serves until it is killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Service, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(main())
    except ImportError:
        asyncio.run(main())
