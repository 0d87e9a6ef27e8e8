"""What an executor may do besides returning events: put bytes aside as a payload, and read the clock for durations."""

from __future__ import annotations

from typing import Protocol

from engine.codes import text_of
from ledger.events import Commitment

TEXT_CHARS_MAX = 4000


class Keeper(Protocol):
    """Takes payloads in the order in which the event about to be recorded introduces them."""

    def keep(self, data: bytes) -> Commitment:
        """Put bytes aside under the next payload number."""
        ...

    def keep_text(self, text: str) -> Commitment:
        """Put a text aside as a JSON string, as it is `shown`."""
        ...

    def shown(self, text: str) -> str:
        """A text as others may see it: without what came from the environment, and no longer than `TEXT_CHARS_MAX`."""
        ...

    def code(self, given: object) -> str:
        """A code as a body may hold it: a short word that is no secret."""
        ...


def describe(error: BaseException, *, named: bool = True) -> str:
    """An exception as a text: its type (when `named`) and what it says."""
    try:
        text = text_of(error)
    except KeyboardInterrupt:
        raise
    except BaseException as broken:
        text = f"(its message raised {type(broken).__name__})"
    name = type(error).__name__
    if not named:
        return text
    return f"{name}: {text}" if text else name
