"""A real server on the loopback, which answers as it is told, well or badly, and remembers what it was asked.

    with serving() as server:
        server.on("/rates", *failing(2), Answer(b'{"rate": 1}'))
        ... server.url("/rates") ...
        assert [seen.key for seen in server.seen] == ["k", "k", "k"]

Why real: what goes wrong between two machines goes wrong in sockets, and none of it shows in a stand-in for the client.

Invariants: a path's replies are given in order, the last of them from then on; a request is remembered before it is
answered; nothing waits for time to pass, and when the server is left, all that still waits in it ends.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_LINGER = struct.Struct("ii")
_TRICKLE_SECONDS = 0.02


class Seen(NamedTuple):
    """A request: `target` is path and query as sent, header names are lower case, `connection` tells connections apart."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def key(self) -> str | None:
        """Its idempotency key."""
        return self.headers.get("idempotency-key")


class Answer(NamedTuple):
    """A whole answer; the connection stays open."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = {}

    def content(self) -> bytes:
        """Its bytes; a length is added unless the headers say how long it is."""
        said = {name.lower() for name in self.headers}
        length = {} if said & {"content-length", "transfer-encoding"} else {"Content-Length": str(len(self.body))}
        lines = [f"HTTP/1.1 {self.status} Told", *(f"{name}: {value}" for name, value in {**self.headers, **length}.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


class Raw(NamedTuple):
    """Just these bytes, whatever they are; then the server hangs up, with `reset` rudely."""

    content: bytes = b""
    reset: bool = False


class Trickle(NamedTuple):
    """`head`, then `drop` again and again for as long as anybody listens."""

    head: bytes = b""
    drop: bytes = b"x"


class Held(NamedTuple):
    """Nothing until `gate` is set, then the answer. A gate that nobody sets makes a server that never answers."""

    gate: threading.Event
    then: Answer = Answer()


Reply = Answer | Raw | Trickle | Held
Told = Reply | Callable[[Seen], Reply]


def failing(times: int, status: int = 503) -> tuple[Answer, ...]:
    """Replies that fail so many times; give the one that comes then after them."""
    return (Answer(b"not now", status),) * times


def chunked(*parts: bytes) -> Answer:
    """An answer whose length is not known before."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return Answer(body, headers={"Transfer-Encoding": "chunked"})


@contextmanager
def serving() -> Iterator[Loopback]:
    """A server that runs while the block does. A path that it was told nothing about is answered with 404."""
    server = Loopback()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="loopback")
    thread.start()
    try:
        yield server
    finally:
        server.end()
        thread.join()


@contextmanager
def nobody() -> Iterator[str]:
    """The url of a port that is taken and on which nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"


@contextmanager
def deaf() -> Iterator[str]:
    """The url of a server that takes connections and never reads what is sent on them."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


class Loopback(ThreadingHTTPServer):
    """The server that `serving` runs."""

    daemon_threads = False  # so that leaving joins them, and none outlives its test

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[str, list[Told]] = {}
        self._seen: list[Seen] = []
        self._open: set[socket.socket] = set()
        self._gates: set[threading.Event] = set()
        self.stopping = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    def on(self, path: str, *replies: Told) -> None:
        """Say what `path` answers: one reply after the other, the last from then on."""
        with self._lock:
            self._told[path] = list(replies)

    def url(self, path: str = "/") -> str:
        """Where to ask."""
        return f"http://127.0.0.1:{self.server_port}{path}"

    @property
    def seen(self) -> list[Seen]:
        """Every request until now, in the order in which they came."""
        with self._lock:
            return list(self._seen)

    def end(self) -> None:
        """Stop, and let go of all that waits."""
        self.shutdown()  # first, so that no connection comes in behind
        self.stopping.set()
        with self._lock:
            for gate in self._gates:
                gate.set()
            for connection in self._open:
                _hang_up(connection)
        self.server_close()

    # --- what the handlers and the library call ---

    def reply_to(self, seen: Seen) -> Reply:
        """Remember a request, and find what it gets."""
        with self._lock:
            self._seen.append(seen)
            replies = self._told.get(urlsplit(seen.target).path) or [Answer(b"nobody told me", 404)]
            told = replies.pop(0) if len(replies) > 1 else replies[0]
        return told(seen) if callable(told) else told

    def wait_for(self, gate: threading.Event) -> bool:
        """Whether the gate was opened by anybody but the end."""
        with self._lock:
            self._gates.add(gate)
        return not self.stopping.is_set() and gate.wait() and not self.stopping.is_set()

    def server_bind(self) -> None:
        """Without the look-up of the host's name that an HTTP server makes."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Know the connection, so that the end can reach it."""
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Hang up; a connection that is to be reset has no orderly end before."""
        with self._lock:
            self._open.discard(request)
        if _LINGER.unpack(request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size))[0]:
            request.close()
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is nothing to tell."""


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Loopback

    def _ask(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._give(self.server.reply_to(Seen(self.command, self.path, headers, body, self.client_address[1])))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _ask  # the names that the library asks for

    def _give(self, reply: Reply) -> None:
        if isinstance(reply, Held):
            if not self.server.wait_for(reply.gate):
                self.close_connection = True
                return
            reply = reply.then
        if isinstance(reply, Answer):
            content = reply.content()
            self.wfile.write(content[: -len(reply.body)] if self.command == "HEAD" and reply.body else content)
            return
        self.close_connection = True
        if isinstance(reply, Raw):
            self.wfile.write(reply.content)
            if reply.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(1, 0))
            return
        self.wfile.write(reply.head)
        while not self.server.stopping.wait(_TRICKLE_SECONDS):
            self.wfile.write(reply.drop)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: what was asked is in `seen`."""
