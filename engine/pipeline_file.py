"""A pipeline file, read: its text, its settings, and where in the file each of them stands.

Invariants: what is recorded is the text before substitution, with passwords in URLs masked; every problem names
file:line, the key, what was expected, and the nearest known key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePath
from typing import Any

import msgspec
from pydantic import BaseModel, ValidationError

from engine import pipeline_yaml
from engine.problems import PipelineRefused, Problem, hushed, nearest
from engine.settings import PipelineSettings, is_kept_here
from engine.substitution import Substituted, substitute
from ledger.ids import is_name

Path = tuple[str | int, ...]

_canonical = msgspec.json.Encoder(order="sorted").encode

REPLACED: Mapping[str, str] = {
    "landscape": "ledger.url says where the record is kept",
    "payload_store": "payloads are kept in the ledger",
    "checkpoint": "every commit of the log can be resumed from",
    "telemetry": "the event log has it all: counterfoil query",
    "rate_limit": "concurrency.max_workers and retry bound outside effects",
}
"""The predecessor's keys, and what is there instead."""


@dataclass(frozen=True)
class PipelineFile:
    """`settings_hash` covers the data before substitution, comments and layout aside."""

    path: str
    text: str
    name: str
    settings: PipelineSettings
    settings_hash: str
    secrets: Mapping[str, str]
    notices: tuple[str, ...]
    lines: Mapping[Path, int]
    raw: Mapping[str, Any]

    def where(self, *path: str | int) -> str:
        """`file:line` of a key, or of the nearest key around it."""
        return _where(self.path, self.lines, path)

    def problem(self, code: str, path: Path, what: str, next_step: str = "") -> Problem:
        """What is wrong at a key, which it names."""
        return Problem(code, f"{dotted(path)}: {what}" if path else what, self.where(*path), next_step)

    def hash_of(self, *path: str | int) -> str:
        """Hash of one section, before substitution."""
        section: Any = self.raw
        for part in path:
            section = section[part]
        return sha256(_canonical(section)).hexdigest()


def load(path: str, environment: Mapping[str, str]) -> PipelineFile:
    """Read a pipeline file. Raises `UsageError` when there is none, `SettingsInvalid` for what it says."""
    return parse(pipeline_yaml.read(path), path, environment)


def parse(text: str, path: str, environment: Mapping[str, str]) -> PipelineFile:
    """The same of a text; `path` is only for messages."""
    document = pipeline_yaml.load(text, path)

    def where(key: Path) -> str:
        return _where(path, document.lines, key)

    if not isinstance(document.data, dict):
        raise PipelineRefused([Problem("SETTINGS_EMPTY", "expected a mapping with source and sinks, found "
                                       f"{type(document.data).__name__}", where(()), "see docs/pipeline-file.md")])
    substituted = substitute(document.data, environment, where)
    settings = _settings(substituted, where)
    stem = PurePath(path).stem
    name = settings.name or (stem if is_name(stem) else "pipeline")
    return PipelineFile(
        path=path,
        text=_masked(text, path, substituted.secrets),
        name=name,
        settings=settings,
        settings_hash=sha256(_canonical(document.data)).hexdigest(),
        secrets=substituted.secrets,
        notices=_notices(settings, where),
        lines=document.lines,
        raw=document.data,
    )


def ledger_url(settings: PipelineSettings) -> str | None:
    """Where the file says the record is kept, in its own or the predecessor's words."""
    if settings.ledger is not None:
        return settings.ledger.url
    landscape = settings.landscape
    url = landscape.get("url") if isinstance(landscape, dict) else None
    return url if isinstance(url, str) else None


def _where(file: str, lines: Mapping[Path, int], path: Path) -> str:
    while path and path not in lines:
        path = path[:-1]
    return f"{file}:{lines.get(path, 1)}"


def _masked(text: str, path: str, secrets: Mapping[str, str]) -> str:
    """The text with passwords in URLs masked; where one is written in another way, the file's data without that value."""
    passwords = [secret for name, secret in secrets.items() if name.startswith("url:") and secret]
    if not passwords:
        return text
    for password in passwords:
        text = text.replace(f":{password}@", ":***@")
    data = pipeline_yaml.load(text, path).data
    hidden = _hidden(data, passwords)
    return text if hidden == data else _canonical(hidden).decode()


def _hidden(value: Any, passwords: list[str]) -> Any:
    """The data with every URL that still holds a password replaced whole."""
    if isinstance(value, dict):
        return {key: _hidden(inner, passwords) for key, inner in value.items()}
    if isinstance(value, list):
        return [_hidden(inner, passwords) for inner in value]
    if isinstance(value, str) and "://" in value and any(password in value for password in passwords):
        return "***"
    return value


def _settings(substituted: Substituted, where: Callable[[Path], str]) -> PipelineSettings:
    try:
        return PipelineSettings.model_validate(substituted.data)
    except ValidationError as error:
        found = problems(error.errors(), where, PipelineSettings)
        raise PipelineRefused(hushed(found, substituted.secrets.values())) from None


def problems(errors: Iterable[Mapping[str, Any]], where: Callable[[Path], str], model: type[BaseModel], base: Path = ()
             ) -> list[Problem]:
    """Pydantic's errors in our words, unknown keys first: a slip in a key's name is why another one is missing."""
    ordered = sorted(errors, key=lambda found: found["type"] != "extra_forbidden")
    return [_problem(found, where, model, base) for found in ordered]


def _problem(found: Mapping[str, Any], where: Callable[[Path], str], model: type[BaseModel], base: Path) -> Problem:
    """One of pydantic's errors in our words; `base` is where the model's data stands in the file."""
    inside = tuple(part for part in found["loc"] if part != "[key]")
    path = (*base, *inside)
    key = dotted(path)
    kind = found["type"]
    if kind == "extra_forbidden":
        known = _fields_at(model, inside[:-1])
        return Problem("KEY_UNKNOWN", f"{key}: expected a known key, found {str(inside[-1])!r}", where(path),
                       nearest(str(inside[-1]), known) or "remove it: no key is known here")
    if kind == "missing":
        return Problem("KEY_MISSING", f"{key}: expected a value, found none", where(path[:-1]), f"add {inside[-1]}")
    if kind == "too_short":
        return Problem("VALUE_INVALID", f"{key}: expected at least one entry, found none", where(path), f"mend {key}")
    text = found["msg"].removeprefix("Value error, ")
    shown = "" if text.startswith("expected") else f", found {_shown(found.get('input'))}"
    text = text if text.startswith("expected") else f"expected {_lower(text)}"
    what = f"{key}: {text}{shown}" if key else text + shown
    return Problem("VALUE_INVALID", what, where(path), f"mend {key}" if key else "")


def dotted(path: Path) -> str:
    """`coalesce[0].policy`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _lower(text: str) -> str:
    for opening in ("Input should be ", "Value should have ", "Field required"):
        text = text.removeprefix(opening)
    return text[:1].lower() + text[1:]


def _shown(value: object) -> str:
    if isinstance(value, (str, int, float, bool, type(None))):
        return f"{value!r:.80}"
    return "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else type(value).__name__


def _fields_at(model: type[BaseModel], path: Path) -> list[str]:
    """The field names of the section at `path`, by walking the models' annotations."""
    current: Any = model
    for part in path:
        if isinstance(part, str) and isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(part)
            current = field.annotation if field else None
        else:
            arguments = getattr(current, "__args__", ())
            current = arguments[-1] if arguments else None
        current = _model_in(current)
    if not (isinstance(current, type) and issubclass(current, BaseModel)):
        return []
    return [field.alias or name for name, field in current.model_fields.items()]


def _model_in(annotation: Any) -> Any:
    """The model of `Model | None`; anything else as it is."""
    for argument in getattr(annotation, "__args__", ()):
        if type(None) in annotation.__args__ and isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument
    return annotation


def _notices(settings: PipelineSettings, where: Callable[[Path], str]) -> tuple[str, ...]:
    """One notice for each of the predecessor's keys; what would change protection or delivery is refused."""
    landscape = settings.landscape
    url = landscape.get("url") if isinstance(landscape, dict) else landscape
    if landscape is not None and (not isinstance(landscape, dict) or not (url is None or is_kept_here(url))):
        raise PipelineRefused([Problem(
            "VALUE_INVALID", "landscape.url: expected sqlite:///FILE, for it names the ledger, found "
            f"{_shown(url)}", where(("landscape", "url")), "name a file, or remove landscape")])
    if isinstance(landscape, dict):
        for key in ("encryption_key_env", "export"):
            if landscape.get(key) not in (None, False):
                raise PipelineRefused([Problem(
                    "KEY_REFUSED", f"landscape.{key}: expected no such key: it promises protection or delivery that "
                    "would not happen here", where(("landscape", key)), "remove it, and protect or export the ledger "
                    "itself")])
    found = [key for key in REPLACED if getattr(settings, key) is not None]
    replaced = [f"{where((key,))}: {key} is accepted and has no effect{' but its url' if key == 'landscape' else ''}: "
                f"{REPLACED[key]}" for key in found]
    return tuple(replaced)
