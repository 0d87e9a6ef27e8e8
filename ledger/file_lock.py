"""An operating-system lock on a file: it ends with the process that holds it, however that ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path

from ledger.errors import LedgerUnavailable

DISK_FAULTS: Mapping[int, tuple[str, str]] = {
    errno.EROFS: ("LEDGER_READ_ONLY", "make the directory writable"),
    errno.EACCES: ("LEDGER_READ_ONLY", "make the directory writable"),
    errno.EPERM: ("LEDGER_READ_ONLY", "make the directory writable"),
    errno.ENOSPC: ("LEDGER_FULL", "free some space"),
    errno.EDQUOT: ("LEDGER_FULL", "free some space"),
}
"""What an error's number says of a ledger's disk: the code, and what to do about it."""


class FileLock:
    """An exclusive lock, held from construction to `release`. Without `wait` a held lock raises LEDGER_BUSY at once."""

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        self.path = path
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._take(wait=wait)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        except OSError as error:
            self.release()
            raise _unavailable(path, error) from error
        except BaseException:
            self.release()
            raise

    def _take(self, *, wait: bool) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.read(self._descriptor, 64).decode("ascii", "replace").strip() or "unknown"
            raise LedgerUnavailable("LEDGER_BUSY", f"expected to be the one writer, found process {holder}",
                                    where=str(self.path), next_step="wait for it, or use --wait") from None

    def release(self) -> None:
        """Let go; the file stays, for a lock file that is removed can be held twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _unavailable(path: Path, error: OSError) -> LedgerUnavailable:
    """Why a lock file cannot be made or written, by the error's number."""
    code, step = DISK_FAULTS.get(error.errno or 0, ("LEDGER_MISSING", "check the directory of --ledger"))
    return LedgerUnavailable(code, f"expected to make a lock file, found {error.strerror or error}", where=str(path),
                             next_step=step)
