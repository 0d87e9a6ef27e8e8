"""An operating-system lock on a file: it ends with the process that holds it, however that ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ledger.errors import LedgerUnavailable


class FileLock:
    """An exclusive lock, held from construction to `release`. Without `wait` a held lock raises LEDGER_BUSY at once."""

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise LedgerUnavailable("LEDGER_MISSING", f"expected to make a lock file, found {error.strerror}",
                                    where=str(path), next_step="check the directory of --ledger") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.read(self._descriptor, 64).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise LedgerUnavailable("LEDGER_BUSY", f"expected to be the one writer, found process {holder}",
                                    where=str(path), next_step="wait for it, or use --wait") from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let go; the file stays, for a lock file that is removed can be held twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
