"""The strict reader of pipeline files: YAML's plain data, with the line that each key and value stands on.

Why our own: the usual loader keeps the last of two equal keys, makes `no` a boolean and `1:30` a number, follows
aliases until memory ends, and forgets where anything stood. Here the parser's events are taken one by one instead.

Invariants: what comes out is dict, list, str, int, float, bool and None, a tree, bounded in size and depth before it is
built; keys are text as written; a scalar that is not plainly a number, a boolean or null stays as written. What is
wrong is a `SettingsInvalid` that names the line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from typing import NamedTuple, cast

import yaml
from yaml import events

from ledger.errors import SettingsInvalid, UsageError

BYTES_MAX, DEPTH_MAX, NODES_MAX = 2**20, 40, 50_000
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

Path = tuple[str | int, ...]
Node = events.ScalarEvent | events.CollectionStartEvent

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNFIT = re.compile("[\0\ud800-\udfff]")
_WORDS: Mapping[str, bool | None] = {
    "": None, "~": None, "null": None, "true": True, "True": True, "false": False, "False": False,
}  # fmt: skip
_CORE = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(_CORE + name for name in ("str", "int", "float", "bool", "null"))
_BREAKS = ("\n", "\x85", "\u2028", "\u2029")


class Document(NamedTuple):
    """What a file says: plain data, and the line (from 1) of each entry's key, each item, and `()` for the whole."""

    data: object
    lines: dict[Path, int]


def read(path: str) -> str:
    """The text of a file of UTF-8.

    Raises `UsageError` when there is no such file, `SettingsInvalid` when it cannot be read, is too long, or no text.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise UsageError("FILE_MISSING", "expected a pipeline file, found none", where=path,
                         next_step="check the path; it is relative to the working directory") from error
    except IsADirectoryError as error:
        raise UsageError("FILE_IS_DIRECTORY", "expected a pipeline file, found a directory", where=path,
                         next_step="name a file in it") from error
    except OSError as error:
        raise SettingsInvalid("FILE_UNREADABLE", f"expected a file that can be read, found: {error.strerror}",
                              where=path, next_step="check the file and its permissions") from error
    if len(content) > BYTES_MAX:
        raise _too_long(path)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"expected UTF-8, found the byte 0x{content[error.start]:02x}"
        raise SettingsInvalid("YAML_ENCODING", found, where=f"{path}:{line}", next_step="save it as UTF-8") from error


def load(text: str, path: str) -> Document:
    """The one document in `text`; `path` is what errors call the file. Raises `SettingsInvalid`."""
    if len(text) > BYTES_MAX or len(text.encode(errors="surrogatepass")) > BYTES_MAX:
        raise _too_long(path)
    return _Builder(text, path).document()


def _too_long(path: str) -> SettingsInvalid:
    return SettingsInvalid("YAML_TOO_LONG", f"expected at most {BYTES_MAX} bytes, found more", where=path,
                           next_step="keep data out of the pipeline file")  # fmt: skip


class _Builder:
    """Takes the parser's events and builds data; recursion is bounded by `DEPTH_MAX`."""

    def __init__(self, text: str, path: str) -> None:
        self._path = path
        self._nodes = 0
        self._lines: dict[Path, int] = {}
        try:
            self._loader = yaml.SafeLoader(text)
        except yaml.reader.ReaderError as error:
            line = sum(text.count(mark, 0, error.position) for mark in _BREAKS) + 1
            found = f"found the character U+{ord(text[error.position]):04X}"
            raise self._refused("YAML_ENCODING", f"expected text that prints, {found}", line, "remove it") from error

    def document(self) -> Document:
        """The only document; a second one is an error."""
        self._next()
        if isinstance(self._next(), events.StreamEndEvent):
            raise self._refused("YAML_INVALID", "expected keys and values, found an empty file", 1,
                                "write a pipeline into it")  # fmt: skip
        first = self._next()
        self._lines[()] = _line(first)
        data = self._value(first, (), 1)
        self._next()
        after = self._next()
        if not isinstance(after, events.StreamEndEvent):
            raise self._refused("YAML_DOCUMENTS", "expected one document, found a second", _line(after),
                                "keep one pipeline per file")  # fmt: skip
        return Document(data, self._lines)

    def _next(self) -> events.Event:
        try:
            return cast(events.Event, self._loader.get_event())  # type: ignore[no-untyped-call]
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line, mark.column) if mark else (0, 0)
            found = f"expected YAML, at column {column + 1}: {error.problem}"
            raise self._refused("YAML_INVALID", found, line + 1, "mend the line, or the one before it") from error
        except (ValueError, OverflowError) as error:  # an escape beyond Unicode, a version of 5 000 digits
            raise self._refused("YAML_INVALID", "expected YAML, found an escape or a number beyond its range",
                                self._loader.line + 1, "mend the line, or the one before it") from error  # fmt: skip

    def _value(self, event: events.Event, path: Path, depth: int) -> object:
        node = self._admitted(event, depth)
        if isinstance(node, events.ScalarEvent):
            return self._scalar(node)
        kind = "map" if isinstance(node, events.MappingStartEvent) else "seq"
        if node.tag not in (None, _CORE + kind):
            raise self._tag(node)
        return self._mapping(path, depth) if kind == "map" else self._sequence(path, depth)

    def _admitted(self, event: events.Event, depth: int) -> Node:
        """The event, unless it is what no node may be: an alias or its anchor, one too many, one too deep."""
        if not isinstance(event, Node) or event.anchor is not None:
            sign = "&" if isinstance(event, Node) else "*"
            written = _short(f"{sign}{getattr(event, 'anchor', '')}")
            raise self._refused("YAML_ALIAS", f"expected no aliases or anchors, found {written}", _line(event),
                                "write the value out, or quote the text")  # fmt: skip
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise self._refused("YAML_TOO_LONG", f"expected at most {NODES_MAX} keys and values, found more",
                                _line(event), "keep data out of the pipeline file")  # fmt: skip
        if depth > DEPTH_MAX and not isinstance(event, events.ScalarEvent):
            raise self._refused("YAML_TOO_DEEP", f"expected at most {DEPTH_MAX} levels, found more", _line(event),
                                "nest less")  # fmt: skip
        return event

    def _mapping(self, path: Path, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        while not isinstance(event := self._next(), events.MappingEndEvent):
            key = self._key(event, depth)
            here = (*path, key)
            if key in found:
                raise self._refused("YAML_DUPLICATE_KEY",
                                    f"expected each key once, found {_short(key)} again (first on line "
                                    f"{self._lines[here]})", _line(event), "keep one of them")  # fmt: skip
            self._lines[here] = _line(event)
            found[key] = self._value(self._next(), here, depth + 1)
        return found

    def _key(self, event: events.Event, depth: int) -> str:
        """A key as written: `no`, `1` and `true` are names here."""
        node = self._admitted(event, depth)
        if not isinstance(node, events.ScalarEvent) or (node.value == "" and node.implicit[0]):
            found = "nothing" if isinstance(node, events.ScalarEvent) else "a list or a mapping"
            raise self._refused("YAML_INVALID", f"expected a key that is text, found {found}", _line(node),
                                "quote text that holds braces or brackets")  # fmt: skip
        if node.tag is not None and node.tag not in _SCALAR_TAGS:
            raise self._tag(node)
        return self._text(node)

    def _sequence(self, path: Path, depth: int) -> list[object]:
        found: list[object] = []
        while not isinstance(event := self._next(), events.SequenceEndEvent):
            here = (*path, len(found))
            self._lines[here] = _line(event)
            found.append(self._value(event, here, depth + 1))
        return found

    def _scalar(self, event: events.ScalarEvent) -> object:
        if event.tag is not None:
            return self._tagged(event)
        text = self._text(event)
        return self._plain(text, event) if event.implicit[0] else text

    def _plain(self, text: str, event: events.ScalarEvent) -> object:
        """What unquoted text means."""
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            # The length first: int() of thousands of digits is slow, or refused.
            if len(text) > 20 or not INT_MIN <= (number := int(text)) <= INT_MAX:
                raise self._number(event, "an int of 64 bits")
            return number
        if _NOT_FINITE.fullmatch(text):
            raise self._number(event, "a finite number")
        if _FLOAT.fullmatch(text):
            if not isfinite(real := float(text)):
                raise self._number(event, "a finite number")
            return real
        return text

    def _tagged(self, event: events.ScalarEvent) -> object:
        """A scalar that says its own kind: it must be of it."""
        if event.tag not in _SCALAR_TAGS:
            raise self._tag(event)
        text = self._text(event)
        if event.tag == _CORE + "str":
            return text
        value = self._plain(text, event)
        kind = {bool: "bool", int: "int", float: "float", type(None): "null"}.get(type(value), "str")
        if event.tag == _CORE + "float" and kind == "int":
            return float(text)
        if event.tag != _CORE + kind:
            raise self._refused("YAML_TAG", f"expected a value of !!{event.tag.removeprefix(_CORE)}, found "
                                f"{_short(text)}", _line(event), "leave the tag out")  # fmt: skip
        return value

    def _text(self, event: events.ScalarEvent) -> str:
        """The text, if files and databases can hold it; escapes can say what the file itself may not."""
        text = event.value
        if _SURROGATE.search(text):  # JSON writes what is beyond 16 bits as a pair of escapes: that is one letter
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if unfit := _UNFIT.search(text):
            raise self._refused("YAML_ENCODING", f"expected text, found an escape for U+{ord(unfit[0]):04X}",
                                _line(event), "remove it")  # fmt: skip
        return text

    def _number(self, event: events.ScalarEvent, expected: str) -> SettingsInvalid:
        return self._refused("YAML_NUMBER", f"expected {expected}, found {_short(event.value)}", _line(event),
                             "write another number, or quote it if it is text")  # fmt: skip

    def _tag(self, event: Node) -> SettingsInvalid:
        tag = str(event.tag)
        written = f"!!{tag.removeprefix(_CORE)}" if tag.startswith(_CORE) else tag
        return self._refused("YAML_TAG", f"expected plain YAML, found the tag {_short(written)}", _line(event),
                             "leave the tag out, or quote the text")  # fmt: skip

    def _refused(self, code: str, what: str, line: int, next_step: str) -> SettingsInvalid:
        return SettingsInvalid(code, what, where=f"{self._path}:{line}", next_step=next_step)


def _line(event: events.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _short(text: str) -> str:
    """The text quoted, printable, and short enough for one line."""
    quoted = ascii(text) if not text.isprintable() else repr(text)
    return quoted if len(quoted) <= 60 else f"{quoted[:57]}..."
