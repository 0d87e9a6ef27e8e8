"""A proxy between a PostgreSQL client and its server that cuts a connection at an exact byte of an exact message.

    with cutting(url) as proxy:
        ... a session over proxy.url ...
        commit = proxy.found("client", b"COMMIT")
    with cutting(url, before(commit)) as proxy:          # or after(commit), within(commit, 3)
        ... the same session: it fails where the cut is ...
        assert proxy.made

Why: whether a commit took place is what a client cannot know when its connection ends in between. This makes every such
moment, one by one, with no luck in it.

Invariants: messages are counted whole, from 1, for each connection and direction (a request for encryption is refused and
not counted); what comes before the cut was handed on, in order, and nothing after it, in neither direction; connections
that no cut names pass; when the proxy is left, its thread has ended and its sockets are closed.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

from sqlalchemy.engine import make_url

Direction = Literal["client", "server"]
"""Who sends."""

How = Literal["rst", "orderly", "client_only", "silent"]
"""What a cut does. The client's connection is reset with each but `silent`, and the server's is

`rst`          reset too: what was handed on and not yet read by the server may be lost to it;
`orderly`      closed for writing: the server reads all that was handed on, and then the end;
`client_only`  left open: the server goes on and waits, and its answers go nowhere, until `hang_up`;
`silent`       left open, and so is the client's: both wait for what does not come, until `hang_up`.
"""

SECONDS_MAX = 60
_HEAD_BYTES = 200
_LENGTH = struct.Struct("!i")
_START = struct.Struct("!ii")
_LINGER = struct.pack("ii", 1, 0)
_ENCRYPTION = {80877103, 80877104}  # by TLS, by GSSAPI
_CANCEL = 80877102


class Message(NamedTuple):
    """A message that passed or was cut: the `number`-th of its connection and direction, `length` bytes in all.

    `type` is the protocol's letter, or `startup` or `cancel`; `head` is how it begins, from its first byte.
    """

    connection: int
    direction: Direction
    number: int
    type: str
    length: int
    head: bytes


class Cut(NamedTuple):
    """Cut a connection (the first is 1) at one of its messages, after `keep_bytes` of it or, with None, after all of it."""

    direction: Direction
    message: int
    keep_bytes: int | None = None
    how: How = "rst"
    connection: int = 1


def before(message: Message, how: How = "rst") -> Cut:
    """Nothing of the message passes."""
    return within(message, 0, how)


def within(message: Message, keep_bytes: int, how: How = "rst") -> Cut:
    """So many bytes of the message pass."""
    return Cut(message.direction, message.number, keep_bytes, how, message.connection)


def after(message: Message, how: How = "rst") -> Cut:
    """The message passes, and nothing else."""
    return Cut(message.direction, message.number, None, how, message.connection)


def points(messages: Sequence[Message], how: How = "rst") -> list[Cut]:
    """Every place where a session can be cut, up to the bytes within a message, of which the middle stands for all."""
    return [cut for message in messages
            for cut in (before(message, how), within(message, message.length // 2, how), after(message, how))]


@contextmanager
def cutting(url: str, *cuts: Cut) -> Iterator[Proxy]:
    """A proxy to the server of this URL (SQLAlchemy's) while the block runs; at most one cut for each connection."""
    proxy = Proxy(url, cuts)
    try:
        yield proxy
    finally:
        proxy.end()


class Proxy:
    """The proxy that `cutting` runs, on a thread of its own."""

    def __init__(self, url: str, cuts: Sequence[Cut]) -> None:
        self._to = make_url(url)
        self._cuts = {cut.connection: cut for cut in cuts}
        if len(self._cuts) != len(cuts):
            raise ValueError("a connection can be cut once")
        self._changed = threading.Condition()
        self._messages: list[Message] = []
        self._made: list[Cut] = []
        self._sessions: list[_Session] = []
        self._faults: list[object] = []
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: self._faults.append(context))
        self._server = self._loop.run_until_complete(self._loop.create_server(self._accept, "127.0.0.1", 0))
        self._thread = threading.Thread(target=self._loop.run_forever, name="cutting")
        self._thread.start()

    @property
    def url(self) -> str:
        """The database through the proxy."""
        port = self._server.sockets[0].getsockname()[1]
        return self._to.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)

    @property
    def messages(self) -> list[Message]:
        """What was sent until now, in the order in which it came; see `await_ends`."""
        with self._changed:
            return list(self._messages)

    @property
    def made(self) -> list[Cut]:
        """The cuts that took place; a connection that ends before its cut takes none."""
        with self._changed:
            return list(self._made)

    def found(self, direction: Direction, content: bytes, turn: int = 1) -> Message:
        """The first message that holds this near its beginning, or the second or a later one."""
        return [message for message in self.messages
                if message.direction == direction and content in message.head][turn - 1]

    def await_ends(self) -> None:
        """Wait until no connection is open on any side: only then has the last message of each been counted."""
        with self._changed:
            if not self._changed.wait_for(lambda: all(session.ended for session in self._sessions), SECONDS_MAX):
                raise TimeoutError("a connection through the proxy does not end")

    def await_cut(self) -> None:
        """Wait until a cut was made."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._made), SECONDS_MAX):
                raise TimeoutError("no cut took place")

    def hang_up(self) -> None:
        """Close in an orderly way what cuts left open."""
        self._run(self._close([session for session in self._sessions if session.cut_made]))

    def end(self) -> None:
        """Close everything."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._faults:
            raise RuntimeError(f"the proxy failed: {self._faults}")

    # --- on the thread of the loop ---

    def note(self, message: Message) -> None:
        """A message came in."""
        with self._changed:
            self._messages.append(message)

    def note_cut(self, cut: Cut) -> None:
        """A cut was made."""
        with self._changed:
            self._made.append(cut)
            self._changed.notify_all()

    def note_end(self) -> None:
        """A side of a session is closed."""
        with self._changed:
            self._changed.notify_all()

    def _accept(self) -> asyncio.Protocol:
        number = len(self._sessions) + 1
        session = _Session(self, number, self._cuts.get(number), (self._to.host or "", self._to.port or 5432))
        with self._changed:
            self._sessions.append(session)
        return session.client

    async def _close(self, sessions: Sequence[_Session]) -> None:
        for session in sessions:
            await session.close()

    async def _end(self) -> None:
        self._server.close()
        await self._close(self._sessions)
        await self._server.wait_closed()

    def _run(self, coroutine: object) -> None:
        assert asyncio.iscoroutine(coroutine)
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(SECONDS_MAX)


class _Session:
    """A client's connection and the server's for it."""

    def __init__(self, proxy: Proxy, number: int, cut: Cut | None, to: tuple[str, int]) -> None:
        self._proxy, self._number, self._cut, self._to = proxy, number, cut, to
        self._counts: dict[Direction, int] = {"client": 0, "server": 0}
        self.client = _Side(self, "client")
        self.server = _Side(self, "server")
        self.cut_made = False
        self._reaching: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether both sides are closed."""
        return self.client.closed.done() and self.server.closed.done()

    def opened(self, side: _Side) -> None:
        """Find the server for a client; what the client says is looked at only when there is one."""
        if side is self.client:
            self._reaching = asyncio.get_running_loop().create_task(self._reach())
        elif self.client.closed.done():
            side.close(rudely=False)
        else:
            self.client.parse()

    def received(self, side: _Side, type_: str, packet: bytes) -> None:
        """Hand a message on, or as much of it as the cut leaves."""
        if self.cut_made:
            return
        direction = side.direction
        number = self._counts[direction] = self._counts[direction] + 1
        self._proxy.note(Message(self._number, direction, number, type_, len(packet), packet[:_HEAD_BYTES]))
        other = self._other(side)
        cut = self._cut
        if cut is None or (cut.direction, cut.message) != (direction, number):
            other.transport.write(packet)
            return
        self.cut_made = True
        other.transport.write(packet[: cut.keep_bytes])
        other.when_sent(lambda: self._make(cut))

    def lost(self, side: _Side, rudely: bool) -> None:
        """One side ended by itself: so does the other, unless nothing passes between them any more."""
        self._proxy.note_end()
        other = self._other(side)
        if not self.cut_made and not other.closed.done():
            other.close(rudely)

    async def close(self) -> None:
        """End both sides, which means that they must have begun."""
        await self.client.open
        if self._reaching is not None:
            await self._reaching
        for side in (self.client, self.server):
            side.close(rudely=False)
            await side.closed

    async def _reach(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.server, *self._to)
        except OSError:
            self.server.closed.set_result(None)
            self.client.close(rudely=True)

    def _make(self, cut: Cut) -> None:
        if cut.how != "silent":
            self.client.close(rudely=True)
        if cut.how == "rst":
            self.server.close(rudely=True)
        elif cut.how == "orderly":
            self.server.transport.write_eof()  # what it still says is read, so that nothing resets the connection
        self._proxy.note_cut(cut)

    def _other(self, side: _Side) -> _Side:
        return self.server if side is self.client else self.client


class _Side(asyncio.Protocol):
    """One socket: bytes in, messages out."""

    def __init__(self, session: _Session, direction: Direction) -> None:
        self._session = session
        self.direction: Direction = direction
        self.open: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rest = b""
        self._starting = direction == "client"
        self._then: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=0)  # so that it is told whenever all is sent
        self.open.set_result(transport)
        self._session.opened(self)

    @property
    def transport(self) -> asyncio.Transport:
        """What is written to, once it is open."""
        return self.open.result()

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if self._session.server.open.done():
            self.parse()

    def parse(self) -> None:
        """Find the whole messages in what came."""
        while (length := self._length()) is not None and len(self._rest) >= length:
            packet, self._rest = self._rest[:length], self._rest[length:]
            self._packet(packet)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)
        self._session.lost(self, rudely=exc is not None)

    def resume_writing(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()

    def when_sent(self, then: Callable[[], None]) -> None:
        """Do something as soon as all that was written here is on its way."""
        if self.transport.get_write_buffer_size():
            self._then = then
        else:
            then()

    def close(self, rudely: bool) -> None:
        """End the connection, with a reset or without."""
        if self.closed.done() or not self.open.done():
            return
        if rudely:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self.transport.abort()

    def _length(self) -> int | None:
        """How long the message at the beginning is, as soon as that can be seen."""
        skipped = 0 if self._starting else 1
        if len(self._rest) < skipped + _LENGTH.size:
            return None
        length: int = _LENGTH.unpack_from(self._rest, skipped)[0]
        return skipped + length

    def _packet(self, packet: bytes) -> None:
        if not self._starting:
            self._session.received(self, chr(packet[0]), packet)
            return
        code = _START.unpack_from(packet)[1]
        if code in _ENCRYPTION:
            self.transport.write(b"N")
            return
        self._starting = False
        self._session.received(self, "cancel" if code == _CANCEL else "startup", packet)
