"""The example's own plugin: a look-up in a directory that may answer late, or never.

What it shows: a step that raises `RetryableError` is tried again after a delay, and the loop goes on meanwhile. So a
branch can come after its coalesce has timed out, without anything in the example waiting on a clock.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.plugin_api import RetryableError


class Directory:
    """Answers at once (`ready`), at the second attempt (`slow`), or never (`down`)."""

    def __init__(self) -> None:
        self._asked: set[object] = set()

    def __call__(self, row: Mapping[str, object]) -> dict[str, object]:
        """The row with the desk that it belongs to. Raises RetryableError when the directory has no answer yet."""
        state, number = row["directory"], row["id"]
        if state == "down" or (state == "slow" and number not in self._asked):
            self._asked.add(number)
            raise RetryableError("the directory does not answer")
        return {**row, "desk": f"desk {row['language']}"}
