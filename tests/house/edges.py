"""Where the outside world may come in, file by file, and why. Nowhere else.

A file that is not named here is pure: no clock, no randomness, no environment, no I/O, no threads. An entry that is no
longer needed is a finding too, so the list stays as short as the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Edge(NamedTuple):
    """What one file may take from outside."""

    uses: frozenset[str]
    why: str


def _edge(uses: str, why: str) -> Edge:
    return Edge(frozenset(uses.split()), why)


EDGES: Mapping[str, Edge] = {
    "engine/ports.py": _edge(".cwd() os socket time", "the one door for clock, randomness, environment and process"),
    "engine/feed.py": _edge("threading", "reads the source ahead on a thread, so that timers fire meanwhile"),
    "ledger/expressions.py": _edge("eval() warnings", "makes a function of a checked tree; doubtful text is refused"),
    "engine/workers.py": _edge("threading", "effects run on threads, so that one that waits does not hold up the rest"),
    "engine/watchdog.py": _edge("os threading", "ends the process when a step does not come back"),
    "engine/pipeline_yaml.py": _edge("open()", "reads the pipeline file"),
    "engine/sources/files.py": _edge("open() os", "opens what a source reads; its size and hash"),
    "engine/databases.py": _edge("sqlalchemy sqlite3 urllib", "reaches databases by url; hides the passwords in them"),
    "engine/sources/database.py": _edge("sqlalchemy", "selects the rows of a table or a query"),
    "engine/sources/database_values.py": _edge("uuid", "knows the type when a driver gives one; makes none"),
    "engine/sinks/database.py": _edge("sqlalchemy", "one transaction for a write and its receipt"),
    "engine/sinks/database_columns.py": _edge("sqlalchemy", "finds and makes the table behind a sink"),
    "engine/sinks/database_receipts.py": _edge("sqlalchemy", "epochs and receipts in a sink's target"),
    "engine/sinks/database_rows.py": _edge("sqlalchemy", "inserts rows, and says which are rejected"),
    "engine/sinks/files.py": _edge(".getcwd() fcntl os", "the file behind a sink: lock, cut, write, sync"),
    "engine/transforms/http.py": _edge("urllib3", "sends a request for each row"),
    "engine/transforms/http_connections.py": _edge("http io socket time urllib3", "answers come by a deadline"),
    "engine/transforms/http_template.py": _edge("urllib urllib3", "percent-encodes a url; connects to nothing"),
    "engine/fingerprints.py": _edge(".mkdir() .read_bytes() .unlink() os", "the key file that only its owner reads"),
    "ledger/schemas.py": _edge("sys", "writes the exported schemas to stdout, as a command of its own"),
    "ledger/tables.py": _edge("sqlalchemy", "the log's tables as metadata; nothing connects"),
    "projections/tables.py": _edge("sqlalchemy", "the read tables as metadata; nothing connects"),
    "projections/sqlite_shelf.py": _edge(".read_bytes() .read_text() .rename() .unlink() .write_bytes() os sqlite3",
                                         "the generation files of the read tables, and which start of the machine this is"),
    "projections/sqlite_tables.py": _edge("sqlite3", "the read tables in a file"),
    "projections/postgres_tables.py": _edge("sqlalchemy", "the types of columns that COPY is told; nothing connects by it"),
    "projections/processes.py": _edge("multiprocessing signal", "runs are projected side by side; a Ctrl-C is the parent's"),
    "projections/projectors.py": _edge(".read_text()", "the fingerprint is of the code that makes the rows"),
    "ledger/file_lock.py": _edge("fcntl os", "the lock that keeps a second writer out of a ledger file"),
    "ledger/postgres_session.py": _edge(".now() os socket time", "a connection: its name on the server, and how long it is "
                                        "waited for"),
    "ledger/postgres_url.py": _edge("sqlalchemy urllib", "takes a URL apart and quotes its parts; connects to nothing"),
    "ledger/sqlite_store.py": _edge("os sqlalchemy sqlite3 time", "the embedded store, its write-ahead log's bytes; waits"),
}

DOORS: Mapping[str, str] = {
    "counterfoil/": "the doors: terminal, files, processes",
    "migrations/": "alembic's scripts: the only owner of DDL",
}
