"""A price server on the loopback, for as long as a command runs; the command finds it in `PRICES_URL`.

Why a real server: what a pipeline over `http` has to bear goes wrong between two processes, and nothing else shows it.

Usage: python examples/orders/prices.py COMMAND [ARGUMENT...]

Ends with the command's exit code (128 and the signal's number when a signal ended it). SIGINT and SIGTERM are passed on to
the command, once each: it stands in a process group of its own, so that Ctrl-C does not reach it twice.

Invariant: what is answered depends on the article, and on whether its Idempotency-Key was seen before, on nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import FrameType
from urllib.parse import unquote

VARIABLE = "PRICES_URL"
PLACE = "/prices/"

CENTS: Mapping[str, int] = {
    "bread": 320, "butter": 410, "coffee": 1150, "flour 1/2 kg": 95, "honey": 780, "milk": 135, "rice": 260, "salt": 60,
    "tea": 540, "yeast": 110,
}  # fmt: skip
"""What an article costs. What is not here is not sold (any more): 404."""

BUSY_AT_FIRST = "yeast"
"""Answered with 503 when a key is new."""

CUT_AT_FIRST = "salt"
"""Hung up on when a key is new."""


class Prices(ThreadingHTTPServer):
    """The server: a port that was free, and the keys it has seen."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._lock = threading.Lock()
        self._seen: set[str] = set()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_port}"

    def is_new(self, key: str) -> bool:
        """Whether this is the first request under the key."""
        with self._lock:
            new = key not in self._seen
            self._seen.add(key)
            return new

    def server_bind(self) -> None:
        """Without the look-up of the host's name that an HTTP server makes."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    wbufsize = -1  # an answer leaves in one piece
    server: Prices

    def do_GET(self) -> None:
        article = unquote(self.path.removeprefix(PLACE)) if self.path.startswith(PLACE) else ""
        new = self.server.is_new(self.headers.get("Idempotency-Key", ""))
        if article == CUT_AT_FIRST and new:
            self.close_connection = True
        elif article == BUSY_AT_FIRST and new:
            self._answer(503, {"error": "busy"})
        elif article not in CENTS:
            self._answer(404, {"error": "not sold"})
        else:
            self._answer(200, {"cents": CENTS[article]})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: stderr is the command's."""


@contextmanager
def serving() -> Iterator[Prices]:
    """A server that answers while the block runs."""
    with Prices() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="prices")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def main(command: Sequence[str]) -> int:
    """Serve while the command runs; gives its exit code."""
    if not command:
        print("usage: prices.py COMMAND [ARGUMENT...]", file=sys.stderr)
        return 2
    with serving() as server, _passing_on() as started:
        try:
            process = subprocess.Popen(command, env={**os.environ, VARIABLE: server.url}, process_group=0)
        except OSError as error:
            print(f"prices.py: expected a command that can be run, found {error}", file=sys.stderr)
            return 127
        started(process)
        code = process.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _passing_on() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Within the block signals go to the process that is said to have started; those that came before it, too."""
    processes: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if processes:
            processes[0].send_signal(number)
        else:
            early.append(number)

    def started(process: subprocess.Popen[bytes]) -> None:
        processes.append(process)
        for number in early:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield started
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
