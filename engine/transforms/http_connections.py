"""Connections whose answers come by a deadline.

Why: a socket's timeout starts anew with every byte, so a server that sends one now and then would hold its attempt for
ever: in its headers, in a chunk's length, in the body.

Invariant: the timeout that is set when an answer begins is the time for all of it; each read gets what is left.
"""

from __future__ import annotations

import io
import re
import socket
import time
from http.client import HTTPException, HTTPResponse

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

KEPT = 64
"""How many idle connections are kept; more are made when more threads ask, and closed after use."""

_LENGTH = re.compile("[0-9]{1,18}")


def connections() -> PoolManager:
    """A pool for any number of threads: no redirect, no retry and no proxy of its own."""
    pool = PoolManager(num_pools=1, maxsize=KEPT, block=False)
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return pool


class _Reading(io.RawIOBase):
    """A socket's bytes until a moment on the monotonic clock; after it, TimeoutError."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, seconds: float) -> None:
        self._raw = raw
        self._sock = sock
        self._until = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        read: int | None = self._raw.readinto(buffer)
        return read

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()


class _Response(HTTPResponse):
    """An answer, all of which comes within the timeout that its socket has when it begins."""

    def __init__(self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None) -> None:
        super().__init__(sock, debuglevel, method, url)
        seconds = sock.gettimeout()
        if seconds is not None:
            self.fp = io.BufferedReader(_Reading(self.fp.detach(), sock, seconds))

    def begin(self) -> None:
        """Refuse doubtful lengths here, where what is refused is closed; the library would leave its socket open."""
        super().begin()
        said = self.headers.get_all("content-length", [])
        lengths = {length.strip() for line in said for length in line.split(",")}
        if not self.chunked and (len(lengths) > 1 or any(not _LENGTH.fullmatch(length) for length in lengths)):
            raise HTTPException("expected one length of a body, found others")


class _Connection(HTTPConnection):
    response_class = _Response


class _TlsConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection
