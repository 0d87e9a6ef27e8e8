"""Codes: short stable words that bodies and tables can hold, whatever a plugin gave for one.

Why: a code is the one thing of a plugin's own that stands in an event's body, so it must be bounded, and text, and never
made of row values.
"""

from __future__ import annotations

import re

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}", re.ASCII)

BAD_CODE = "bad_code"


def code_of(given: object) -> str:
    """The code as it was given, or `bad_code` for anything that is none."""
    return given if isinstance(given, str) and _CODE.fullmatch(given) else BAD_CODE
