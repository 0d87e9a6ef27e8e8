"""`${VAR}` in a pipeline file's values, and which of its values are secrets.

Why after the YAML is read: what a variable holds can never add a key, change a type, or name another variable. Why the
secrets are collected here: only here is it known which text came from the environment; the record gets fingerprints.

Invariants: keys are never touched; one pass, results are not looked at again; what was text stays text; the given data
is not changed; at most `INSERTED_MAX` characters come from the environment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ledger.errors import SettingsInvalid

INSERTED_MAX = 2**20

Path = tuple[str | int, ...]

# `$${` stands for `${`. A default ends at the first `}` and holds no `${`: nothing is nested.
_VARIABLE = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>(?:(?!\$\{)[^}])*))?\})?")

_SURROGATE = re.compile("[\ud800-\udfff]")

# A password ends at the last `@` of the authority; database drivers also take one that holds `/`, `?` or `#`.
_SCHEME = r"\s*[A-Za-z][A-Za-z0-9+.\-]*://"
_IN_AUTHORITY = re.compile(_SCHEME + r"[^:/?#@\[]*:(?P<password>[^/?#]*)@", re.DOTALL)
_IN_DATABASE = re.compile(r"(?!\s*(?:https?|wss?)://)" + _SCHEME + r"[^:/?#@\[]*:(?P<password>[^@]*)@", re.IGNORECASE)


class Substituted(NamedTuple):
    """The data with its variables filled in, and each secret: `NAME` -> value, `url:<key path>` -> password."""

    data: object
    secrets: dict[str, str]


def substitute(data: object, environment: Mapping[str, str], where: Callable[[Path], str]) -> Substituted:
    """Fill in `${VAR}` and `${VAR:-default}` in every text value; as in a shell, an empty variable takes its default.

    `where` tells the place (file:line) of a key path. An empty value is no secret. Raises `SettingsInvalid`.
    """
    filled = _Filling(environment, where)
    return Substituted(filled.value(data, ()), filled.secrets)


class _Filling:
    """One pass over the data; keeps what it met on the way."""

    def __init__(self, environment: Mapping[str, str], where: Callable[[Path], str]) -> None:
        self.secrets: dict[str, str] = {}
        self._environment = environment
        self._where = where
        self._inserted = 0

    def value(self, value: object, path: Path) -> object:
        if isinstance(value, dict):
            return {key: self.value(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner, (*path, place)) for place, inner in enumerate(value)]
        return self._text(value, path) if isinstance(value, str) else value

    def _text(self, text: str, path: Path) -> str:
        filled = _VARIABLE.sub(lambda match: self._filled(match, path), text) if "${" in text else text
        password = _password(filled)
        if password:
            self.secrets[f"url:{_dotted(path)}"] = password
        return filled

    def _filled(self, match: re.Match[str], path: Path) -> str:
        name, default = match["name"], match["default"]
        if match[0] == "$${":
            return "${"
        if name is None:
            raise self._refused("VARIABLE_MALFORMED", "expected ${NAME} or ${NAME:-default}, found another ${", path,
                                "mend it, or write $${ for the text ${")  # fmt: skip
        found = self._environment.get(name)
        if default is not None and not found:
            return str(default)
        if found is None:
            raise self._refused("VARIABLE_UNSET", f"expected the variable {name} to be set, found it unset", path,
                                f"set {name}, or write ${{{name}:-default}}")  # fmt: skip
        return self._kept(name, found, path)

    def _kept(self, name: str, value: str, path: Path) -> str:
        """The value, known from here on as a secret."""
        self._inserted += len(value)
        if self._inserted > INSERTED_MAX:
            what = f"expected at most {INSERTED_MAX} characters from variables, found more in {name}"
            raise self._refused("VARIABLE_TOO_LONG", what, path, "keep data out of the pipeline file")
        if _SURROGATE.search(value):
            raise self._refused("VARIABLE_NOT_TEXT", f"expected UTF-8 in the variable {name}, found other bytes", path,
                                f"set {name} to text")  # fmt: skip
        if value:
            self.secrets[name] = value
        return value

    def _refused(self, code: str, what: str, path: Path, next_step: str) -> SettingsInvalid:
        return SettingsInvalid(code, f"{what}; key {_dotted(path)}", where=self._where(path), next_step=next_step)


def _password(text: str) -> str | None:
    """The password of a URL, as it stands there, or None."""
    if "://" not in text:
        return None
    match = _IN_AUTHORITY.match(text) or _IN_DATABASE.match(text)
    return match["password"] if match else None


def _dotted(path: Path) -> str:
    """The key path, its parts between dots; a part that could be misread is quoted, so no two paths read the same."""
    return ".".join(part if _plain(part) else json.dumps(part) for part in map(str, path))


def _plain(part: str) -> bool:
    return part.isprintable() and bool(part) and not {".", '"'} & set(part)
