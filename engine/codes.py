"""Codes: short stable words that bodies and tables can hold, whatever a plugin gave for one.

Why: a code is the one thing of a plugin's own that stands in an event's body, so it must be bounded, and text, and never
made of row values.
"""

from __future__ import annotations

import re

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}", re.ASCII)

BAD_CODE = "bad_code"


def code_of(given: object) -> str:
    """The code as it was given, as a plain text, or `bad_code` for anything that is none."""
    if not isinstance(given, str):
        return BAD_CODE
    code = str.__str__(given)
    return code if _CODE.fullmatch(code) else BAD_CODE


def text_of(given: object) -> str:
    """What something says of itself, as a plain text: never of a kind of its own. Raises whatever that raises."""
    return str.__str__(str(given))
