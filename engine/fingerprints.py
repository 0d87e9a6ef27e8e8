"""Fingerprints of secrets: whether a value changed can be told later, the value cannot.

Why keyed: a plain hash of a short password can be guessed. The key is 32 random bytes in a file that only its owner reads,
made when first needed, in `$COUNTERFOIL_HOME` (default `~/.config/counterfoil`), never in a ledger.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from engine.ports import Ports
from ledger.errors import SettingsInvalid

KEY_BYTES = 32
KEY_FILE = "fingerprint.key"


def fingerprints(secrets: Mapping[str, str], ports: Ports) -> dict[str, str]:
    """HMAC-SHA-256 of each value, hex; nothing is read or made when there is no secret.

    Raises `SettingsInvalid` when the key file cannot be kept private.
    """
    if not secrets:
        return {}
    key = _key(home(ports.environment), ports)
    return {name: hmac.digest(key, value.encode(), "sha256").hex() for name, value in sorted(secrets.items())}


def home(environment: Mapping[str, str]) -> Path:
    """The directory of this user's keys."""
    named = environment.get("COUNTERFOIL_HOME")
    if named:
        return Path(named)
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "counterfoil"


def _key(directory: Path, ports: Ports) -> bytes:
    path = directory / KEY_FILE
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path, ports.random_bytes(KEY_BYTES))
        if path.stat().st_mode & 0o077:
            raise SettingsInvalid("KEY_EXPOSED", "expected a key file that only its owner can read", where=str(path),
                                  next_step=f"chmod 600 {path}")
        return path.read_bytes()
    except OSError as error:
        raise SettingsInvalid("KEY_UNREADABLE", f"expected a key file for fingerprints: {error.strerror}",
                              where=str(path), next_step="make it readable, or set COUNTERFOIL_HOME") from error


def _make(path: Path, key: bytes) -> None:
    """Write the key whole under its name, or leave the one that another process made meanwhile."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, key)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
