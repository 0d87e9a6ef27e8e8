"""How far a rebuild is, and how fast: a bar on a terminal, else a line now and then; both on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from counterfoil.cli import output
from projections.rebuild import Progress

LINE_EVERY_SECONDS = 5.0


@contextmanager
def rebuilding() -> Iterator[Callable[[Progress], None]]:
    """Takes the progress of a rebuild and shows it."""
    if sys.stderr is not None and sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield lines()


def lines() -> Callable[[Progress], None]:
    """Takes the progress of a rebuild and says it now and then."""
    began = last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_EVERY_SECONDS:
            last = now
            output.note(f"{progress.done} of {progress.total} events, {progress.done / (now - began):.0f} a second")

    return show


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} events"),
               TextColumn("{task.fields[rate]:.0f} a second"), TimeRemainingColumn())
    began = time.monotonic()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rebuild", total=None, rate=0.0)

        def show(progress: Progress) -> None:
            rate = progress.done / max(time.monotonic() - began, 1e-3)
            bar.update(task, completed=progress.done, total=progress.total, rate=rate)

        yield show
