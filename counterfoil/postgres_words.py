"""The words of one SQL statement as PostgreSQL's own lexer tells them apart: what is a name, what is text, what is called.

Why: SQL that is anybody's is looked through before the server runs it. Searching the text itself finds words in literals and
misses those that a comment, a quote or a fold of case hides; told apart as the server does it, neither happens.

Invariants: what the server would take for code is never taken for text here. Where that depends on more than this file knows
(`U&` escapes, adjoining texts, parameters), the statement is refused with a `ValueError` that says what it is.
"""

from __future__ import annotations

import re
import string
from typing import NamedTuple

_TOKEN = re.compile(r"""
    (?P<space> [ \t\n\r\f\v]+ | --[^\n\r]* )
  | (?P<comment> /\* )
  | (?P<hidden> [uU]&['"] )
  | (?P<text> [eE]'(?:[^'\\]|\\.|'')*' | [bBxXnN]?'(?:[^']|'')*'
            | \$(?P<tag> (?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)? )\$ .*? \$(?P=tag)\$ )
  | (?P<quoted> "(?:[^"]|"")+" )
  | (?P<name> [A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]* )
  | (?P<number> [0-9]+ )
  | (?P<sign> [^'"$] )
""", re.VERBOSE | re.DOTALL)
_EDGE = re.compile(r"/\*|\*/")
_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_NAME_BYTES_MAX = 63


class Word(NamedTuple):
    """A piece of a statement that is neither space nor comment.

    `kind` is name, quoted, text, number or sign; `value` what the server reads there, with case folded as it folds it;
    `start` and `end` are where it stands.
    """

    kind: str
    value: str
    start: int
    end: int

    @property
    def names(self) -> bool:
        """Whether it is a keyword or the name of something."""
        return self.kind in ("name", "quoted")


def words(sql: str) -> list[Word]:
    """The words of a statement, in order. Raises `ValueError`."""
    if "\0" in sql:
        raise ValueError("a NUL character")
    found: list[Word] = []
    at = 0
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None:
            raise ValueError(f"a text that does not end, or a parameter: {sql[at:at + 40]!r}")
        kind, value, end = str(match.lastgroup if match.lastgroup != "tag" else "text"), match[0], match.end()
        if kind == "hidden":
            raise ValueError(f"{sql[at:at + 40]!r}, which writes letters as numbers")
        if kind == "comment":
            end = _end_of_comment(sql, at)
        elif kind != "space":
            word = Word(kind, _read(kind, value), at, end)
            if kind == "text" and found and found[-1].kind == "text":
                raise ValueError(f"two texts side by side: {sql[at:at + 40]!r}")
            found.append(word)
        at = end
    return found


def _read(kind: str, value: str) -> str:
    if kind == "name":
        value = value.translate(_FOLD)
    elif kind == "quoted":
        value = value[1:-1].replace('""', '"')
    if kind in ("name", "quoted") and len(value.encode(errors="replace")) > _NAME_BYTES_MAX:
        raise ValueError(f"a name of more than {_NAME_BYTES_MAX} bytes: {value[:40]!r}…")
    return value


def _end_of_comment(sql: str, start: int) -> int:
    """Behind a comment, which may hold others."""
    depth = 0
    for edge in _EDGE.finditer(sql, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    raise ValueError("a comment that does not end")
