"""Whether what a sink gives back can be put on record: types, hashes, places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

from engine.codes import BAD_CODE, code_of
from engine.executors.sinks import checked
from engine.plugin_api import Prepared, Refusal, Written

Fault = tuple[str, str]
"""What was expected, and what found."""


def prepared_faults(given: object, count: int) -> Iterator[Fault]:
    """What keeps this from being `count` rows, prepared."""
    if not isinstance(given, Prepared) or type(given.content) is not bytes:
        yield "Prepared(content: bytes, content_sha256, ordinals, refused)", f"{given!r:.200}"
        return
    ordinals, refused = given.ordinals, given.refused
    if type(ordinals) is not tuple or type(refused) is not tuple or any(type(place) is not int for place in ordinals):
        yield "ordinals as a tuple of int and refused as a tuple", f"{ordinals!r:.100} and {refused!r:.100}"
        return
    faults = [*_refusal_faults(refused)]
    if faults:
        yield from faults
        return
    places = [*ordinals, *(refusal.ordinal for refusal in refused)]
    if sorted(places) != [*range(count)] or list(ordinals) != sorted(ordinals):
        yield (f"each of the places 0 to {count - 1} once, in ordinals (rising) or in refused",
               f"ordinals {ordinals!r:.100} and refused {refused!r:.100}")
    if given.content_sha256 != sha256(given.content).hexdigest():
        yield f"content_sha256 {sha256(given.content).hexdigest()}, that of the content", f"{given.content_sha256!r:.100}"


def answer_faults(given: Written, prepared: Prepared) -> Iterator[Fault]:
    """What keeps this from being the answer to a write, as the engine looks at it."""
    try:
        written = checked(given, prepared)
        found = [*_refusal_faults(written.refused)]
    except (TypeError, ValueError, AttributeError) as error:
        found = [("Written(uri: str, size_bytes: int, content_sha256: str, refused: refusals by places within ordinals)",
                  f"{given!r:.150} ({error})"[:400])]
    yield from found


def _refusal_faults(refused: Sequence[object]) -> Iterator[Fault]:
    for one in refused:
        right = isinstance(one, Refusal) and type(one.ordinal) is int and type(one.text) is str
        if not isinstance(one, Refusal) or not right or code_of(one.code) == BAD_CODE:
            yield "Refusal(ordinal: int, code: a short word, text: str)", f"{one!r:.200}"
            return
