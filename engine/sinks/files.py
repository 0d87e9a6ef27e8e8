"""The file behind a sink: append-only, locked, cut back on resume, durable before anything is confirmed.

Why one place: what a crash leaves behind is decided here, whatever the rows look like.

Invariants:
- From `open` to `close` an exclusive lock on the file itself keeps every other writer out, also before it is cut.
- `append` returns when the bytes are on disk; the directory entry was put there by `open`.
- After an error nothing more is written on the same handle: what the disk holds is then unknown, and a resume cuts it.
- `size` and `sha256` are those of the whole file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Literal

from engine.plugin_api import Claim, Piece, Prepared, Refusal, Written

FileMode = Literal["write", "append"]

_BLOCK_BYTES = 1024 * 1024


class ArtifactFile:
    """One file that grows at its end."""

    def __init__(self, path: str, mode: FileMode) -> None:
        self._path = path
        self._mode = mode
        self._descriptor: int | None = None
        self._broken = False
        self._hash = sha256()
        self._doubtful_end = 0
        self.size = 0

    @property
    def sha256(self) -> str:
        """Hash of the whole file, lower-case hex."""
        return self._hash.hexdigest()

    def open(self, claim: Claim) -> None:
        """Lock the file and bring it to where this run's next write begins. Raises OSError.

        Before the run has begun to write, mode `write` empties the file and mode `append` keeps it. Later it is cut back to
        the claim's offset, once the bytes before it have been found to be those that were confirmed.
        """
        directory = Path(os.path.realpath(self._path)).parent  # of a link: where the file itself is
        needed = _make_directories(directory)
        descriptor = os.open(self._path, os.O_RDWR | (0 if claim.begun and claim.offset else os.O_CREAT), 0o666)
        try:
            self._lock(descriptor)
            if not claim.is_held():
                text = "expected to be the run's writer, found that another process carries it on"
                raise OSError(errno.EPERM, text, self._path)
            self._cut(descriptor, claim)
            _sync_directories(directory, needed, confirmed=bool(claim.offset))
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._broken = False

    def read(self, start: int, size: int) -> bytes:
        """Up to `size` bytes from `start`. Raises OSError."""
        return os.pread(self._opened(), size, start)

    def append(self, content: bytes) -> None:
        """Write at the end; returns when it is durable. Raises OSError, after which the file takes no more."""
        if self._broken:
            raise OSError(errno.EIO, "expected a file that can be written, found one that failed before", self._path)
        descriptor = self._opened()
        if not content:
            return
        self._check_doubtful(content)
        self._broken = True
        left = memoryview(content)
        at = self.size
        while left:
            count = os.pwrite(descriptor, left, at)
            at += count
            left = left[count:]
        os.fsync(descriptor)
        self._broken = False
        self.size = at
        self._hash.update(content)

    def _check_doubtful(self, content: bytes) -> None:
        """What stands past the confirmed bytes of a shared file is overwritten only if a write in doubt has left it there.

        A write that a power cut tore leaves the bytes that it wrote, and zeros.
        """
        if self._doubtful_end <= self.size:
            return
        there = self.read(self.size, min(len(content), self._doubtful_end - self.size))
        if any(found not in (0, byte) for found, byte in zip(there, content, strict=False)):
            raise self._of_others(self.size, self._doubtful_end)

    def _of_others(self, offset: int, found: int) -> OSError:
        text = (f"expected nothing but this run's own rows past the {offset} bytes that were confirmed, found "
                f"{found - offset} bytes of others: move them away, then resume")
        return OSError(errno.EEXIST, text, self._path)

    def write(self, prepared: Prepared) -> Written:
        """Append what was prepared. Raises OSError."""
        self.append(prepared.content)
        return Written(self._path, self.size, prepared.content_sha256, ())

    def finish(self) -> None:
        """See that the file ends where this run's rows end. Raises OSError."""
        if self._doubtful_end > self.size:
            raise self._of_others(self.size, self._doubtful_end)

    def close(self) -> None:
        """Let go of the file and its lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _opened(self) -> int:
        if self._descriptor is None:
            raise OSError(errno.EBADF, "expected an open file, found it closed", self._path)
        return self._descriptor

    def _lock(self, descriptor: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "expected a regular file, found something else", self._path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = "expected to be the only writer, found another that holds the file"
            raise OSError(errno.EBUSY, text, self._path) from None

    def _cut(self, descriptor: int, claim: Claim) -> None:
        """Bring the file to its length, on disk too, and hash what stays."""
        found = os.fstat(descriptor).st_size
        offset = claim.offset if claim.begun else None
        if offset is None:
            offset = found if self._mode == "append" or claim.begun else 0
        if found < offset:
            text = f"expected at least the {offset} bytes that were confirmed, found {found}"
            raise OSError(errno.EIO, text, self._path)
        for piece in claim.pieces:
            self._check(descriptor, piece)
        self._doubtful_end = offset
        if found > offset and claim.begun and self._mode == "append":
            if not claim.in_doubt:
                raise self._of_others(offset, found)
            self._doubtful_end = found
        elif found > offset:
            os.ftruncate(descriptor, offset)
        os.fsync(descriptor)
        self._hash = sha256()
        for block in _blocks(descriptor, 0, offset):
            self._hash.update(block)
        self.size = offset

    def _check(self, descriptor: int, piece: Piece) -> None:
        """What was confirmed has to be there: a file that was changed since is not written to, nor cut."""
        content = sha256()
        for block in _blocks(descriptor, piece.offset, piece.offset + piece.size_bytes):
            content.update(block)
        if content.hexdigest() != piece.content_sha256:
            text = (f"expected the {piece.size_bytes} bytes at {piece.offset} as they were confirmed, found that "
                    "the file was changed since")
            raise OSError(errno.EIO, text, self._path)


def _blocks(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` to `end`, some at a time."""
    for place in range(start, end, _BLOCK_BYTES):
        yield os.pread(descriptor, min(_BLOCK_BYTES, end - place), place)


def prepared(content: bytes, count: int, refused: list[Refusal]) -> Prepared:
    """What `prepare` gives for `count` rows of which `refused` are not taken."""
    out = {refusal.ordinal for refusal in refused}
    ordinals = tuple([ordinal for ordinal in range(count) if ordinal not in out])
    return Prepared(content, sha256(content).hexdigest(), ordinals, tuple(refused))


class Script:
    """How text becomes the file's bytes: the encoding, with its byte order mark only where the file begins."""

    def __init__(self, encoding: str) -> None:
        """Raises ValueError when there is no such encoding."""
        try:
            self._mark = "".encode(encoding)
        except LookupError:
            raise ValueError(f"expected the name of a text encoding, found {encoding!r}") from None
        self.encoding = encoding
        self.takes_everything = encoding.lower().replace("_", "-").startswith(("utf-8", "utf8", "utf-16", "utf-32"))
        self.newline = self.encode("\n")

    def encode(self, text: str, *, begins: bool = False) -> bytes:
        """The text's bytes; `begins` where it is the file's first. Raises UnicodeEncodeError."""
        data = text.encode(self.encoding)
        return data if begins else data[len(self._mark):]

    def refusal(self, ordinal: int, text: str) -> Refusal | None:
        """Why the row at this place cannot be written, if it cannot."""
        if self.takes_everything:
            return None
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError as error:
            found = f"U+{ord(text[error.start]):04X}"
            return Refusal(ordinal, "encoding", f"expected characters that {self.encoding} has, found {found}")
        return None


def lacks_line_end(file: ArtifactFile, newline: bytes) -> bool:
    """Whether the file ends in the middle of a line, so that what is appended must begin with a new one."""
    return file.size > 0 and file.read(max(0, file.size - len(newline)), len(newline)) != newline


def _make_directories(directory: Path) -> list[Path]:
    """Make what is missing; gives the directories that got an entry, the file's own one first."""
    changed = [directory]
    missing = directory
    while not missing.exists():
        missing = missing.parent
        changed.append(missing)
    os.makedirs(directory, exist_ok=True)
    return changed


def _sync_directories(directory: Path, needed: list[Path], *, confirmed: bool) -> None:
    """Bring the entries that lead to a file to disk: also those that a process made which died before it had synced them.

    Nobody makes what is above the working directory for a path inside it. Where bytes were `confirmed` only the file may be
    new: somebody put it back. A directory that got no entry now, and cannot be read or synced, is somebody else's.
    """
    here = _working_directory()
    for one in (directory, *directory.parents):
        try:
            _sync_directory(one)
        except OSError:
            if one in needed:
                raise
        if confirmed or one == here:
            return


def _working_directory() -> Path | None:
    """Where this process is, unless that is gone."""
    try:
        return Path(os.getcwd())
    except FileNotFoundError:
        return None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
