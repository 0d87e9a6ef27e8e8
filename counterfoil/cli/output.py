"""Answers on stdout: as a table for people, as one JSON document, or as one JSON object a line.

Invariants: whatever comes from rows is shown as data: control characters are escaped, so no row can talk to a terminal.
When the reader of stdout has gone away nothing more is said there, and everything else is as ever: the exit code too.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import click
import msgspec

from ledger.errors import CounterfoilError

TABLE, JSON, JSONL = "table", "json", "jsonl"
CELL_CHARS_MAX = 80
UNREADABLE = "a run has an event that cannot be read; see `counterfoil show`"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_encode = msgspec.json.Encoder().encode


def plain(text: str) -> str:
    """The text with every control, direction and zero-width character escaped."""
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def say(text: str) -> None:
    """A line for people on stdout."""
    _put(plain(text))


def note(text: str) -> None:
    """A line for people on stderr; when nobody can hear it, it is not said, and nothing stops for that."""
    with suppress(OSError):
        click.echo(plain(text), err=True)


def _put(text: str) -> bool:
    """A line on stdout; False when its reader has gone away. Raises `CounterfoilError` when it cannot be written."""
    try:
        click.echo(text)
        return True
    except BrokenPipeError:
        let_go()
        return False
    except OSError as error:
        raise CounterfoilError("STDOUT_FAILED", f"expected to write the answer, found {error.strerror or error}",
                               where="stdout", next_step="mend what stands behind it, then ask again") from error


def let_go() -> None:
    """Nobody reads stdout any more: what is still written goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def rows(name: str, found: Iterable[Mapping[str, Any]], form: str, *, complete: bool = True,
         columns: Sequence[str] | None = None, why: str | None = UNREADABLE) -> None:
    """A list of rows: `{"schema", "rows", "complete"}`, one object a line, or a table of `columns`.

    `why` says what is missing when it is not complete, where the answer itself cannot; None when that has been said.
    """
    if form == JSON:
        _put(_as_json({"schema": f"counterfoil/{name}/1", "rows": list(found), "complete": complete}))
        return
    if form == JSONL:
        for row in found:
            if not _put(_as_json(row)):
                return
    else:
        table(list(found), columns)
    if not complete and why is not None:
        note(f"incomplete: {why}")


def answer(name: str, value: Mapping[str, Any], form: str) -> None:
    """One object as JSON (a table is the command's own affair)."""
    _put(_as_json({"schema": f"counterfoil/{name}/1", **value}))


def table(found: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Aligned columns; nothing at all says `(none)`."""
    if not found:
        _put("(none)")
        return
    names = list(columns or found[0])
    cells = [[_cell(row.get(name)) for name in names] for row in found]
    widths = [max(len(plain(name)), *(len(line[n]) for line in cells)) for n, name in enumerate(names)]
    for line in (map(plain, names), *cells):
        if not _put("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()):
            return


def _cell(value: object) -> str:
    if value is None:
        return "-"
    text = plain(value if isinstance(value, str) else value_text(value))
    return text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"


def value_text(value: object) -> str:
    """A value as one line of JSON."""
    return _encode(value).decode()


def _as_json(value: Mapping[str, Any]) -> str:
    text = _encode(value).decode()
    return text if text.isascii() else _CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
