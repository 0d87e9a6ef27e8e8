"""The garbage collector, told what this program is like."""

from __future__ import annotations

import gc


def quiet_collector() -> None:
    """Keep the collector from walking, again and again, what was imported and built and lives until the end.

    Events, tokens and rows hold no cycles, so what ends is freed at once without it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
