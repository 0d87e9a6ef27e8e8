"""The oracle: what it may know of the product, and that it objects."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from ledger import events as e
from tests.house.tree import ROOT, Parsed, parse
from tests.house.walls import imports
from tests.simulation.drawn import Case, drawn
from tests.simulation.predicted_by_log import Follower
from tests.simulation.simulated import command
from tests.simulation.simulated_world import World

ORACLE = sorted(path.stem for path in Path(__file__).parent.glob("predicted*.py"))
WORDS = ("ledger.events", "ledger.graph")
"""What the record says and of what: words. Nothing there decides."""
OURS = ("ledger", "engine", "projections", "migrations", "counterfoil", "tests", "examples", "bench")


def _file(module: str) -> Parsed | None:
    base = ROOT / module.replace(".", "/")
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return parse(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    return None


@cache
def _modules(module: str) -> frozenset[str] | None:
    """Every module of ours that one imports, names taken from packages included; None where there is no such module."""
    file = _file(module)
    return None if file is None else frozenset(_imported(file))


def _imported(file: Parsed) -> Iterator[str]:
    for found in imports(file):
        if found.module.split(".")[0] in OURS:
            yield found.module
    for node in ast.walk(file.tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _reached(module: str) -> set[str]:
    found: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        modules = _modules(name)
        if modules is not None and name not in found:
            found.add(name)
            todo += modules
    return found


@pytest.mark.parametrize("module", ORACLE)
def test_the_oracle_imports_nothing_of_the_engine_and_nothing_that_decides(module: str) -> None:
    """C5: an oracle that shared a rule with the product would share its faults; also by way of what it imports of ours."""
    reached = _reached(f"tests.simulation.{module}")
    assert [name for name in reached if name.split(".")[0] not in ("tests", "ledger")] == []
    assert [name for name in reached if name.startswith("ledger") and not name.startswith(WORDS) and name != "ledger"] == []


def test_the_search_for_imports_finds_what_is_imported_by_way_of_others() -> None:
    """A search that found nothing would allow everything."""
    assert "engine.loop" in _reached("tests.simulation.simulated_world")
    assert "ledger.fold.state" in _reached("tests.simulation.simulated_world")


# --- it objects ------------------------------------------------------------------------------------------------------

SEEDS = range(0, 400, 8)
IDLE = (e.RunClaimed, e.RunStarted, e.RunInterrupted, e.SourceFailed, e.CallRecorded, e.RunSealed)
"""What may be missing without being missed by the oracle: the laws of the log look after those."""


def _run(seed: int) -> tuple[Case, list[e.Event]]:
    case = drawn(seed)
    world = World(case._replace(kills=False), mended=True)
    world.live()
    return case, world.events


def _objects(case: Case, events: list[e.Event]) -> bool:
    follower = Follower(case.pipeline, case.answers, case.rows, troubled=case.troubled)
    follower.follow(events)
    return follower.wrong is not None or not follower.sealed


def _whole(seed: int) -> tuple[Case, list[e.Event]] | None:
    case, events = _run(seed)
    return (case, events) if isinstance(events[-1], e.RunSealed) and len(events) < 120 else None


@pytest.mark.parametrize("seed", SEEDS)
def test_an_event_that_is_left_out_is_missed(seed: int) -> None:
    """A1, B1, E9: whatever is not said of a token, a group, a batch or a write, the oracle misses it."""
    found = _whole(seed)
    for n, event in enumerate(found[1]) if found else ():
        if not isinstance(event, IDLE):
            assert found and _objects(found[0], [*found[1][:n], *found[1][n + 1 :]]), f"{command(seed)}: without {event}"


@pytest.mark.parametrize("seed", SEEDS)
def test_an_event_that_is_said_twice_is_refused(seed: int) -> None:
    """B1, G4, G5: nobody ends twice, arrives twice, or is written twice."""
    found = _whole(seed)
    for n, event in enumerate(found[1]) if found else ():
        if not isinstance(event, IDLE):
            assert found and _objects(found[0], [*found[1][: n + 1], *found[1][n:]]), f"{command(seed)}: {event} twice"


OTHERWISE: Mapping[type[e.Event], Mapping[str, Callable[[Any], object]]] = {
    e.RowRead: {"valid": lambda event: not event.valid},
    e.StepFailed: {"code": lambda event: "another", "retry": lambda event: not event.retry},
    e.StepCompleted: {"attempt": lambda event: event.attempt + 1},
    e.Diverted: {"to": lambda event: "side", "code": lambda event: "another", "kind": lambda event: "another"},
    e.BranchLost: {"cause": lambda event: "another", "branch": lambda event: "another"},
    e.BranchArrivedLate: {"closed_as": lambda event: "merged" if event.closed_as == "failed" else "failed"},
    e.CoalesceFailed: {"reason": lambda event: "another", "trigger": lambda event: "timeout"},
    e.TokensCoalesced: {"trigger": lambda event: "timeout", "collisions": lambda event: {"none": ("a", "b")}},
    e.TokenExpanded: {"count": lambda event: event.count + 1},
    e.Routed: {"edge": lambda event: "another"},
    e.BatchFlushed: {"trigger": lambda event: "timeout", "outputs": lambda event: (*event.outputs, event.outputs[0])
                     if event.outputs else event.outputs, "attempt": lambda event: event.attempt + 1},
    e.BatchFailed: {"code": lambda event: "another", "retry": lambda event: not event.retry},
    e.TokenBuffered: {"batch": lambda event: event.batch + 1, "ordinal": lambda event: event.ordinal + 1},
    e.SinkWriteConfirmed: {"accepted": lambda event: event.accepted + 1, "refused": lambda event: event.refused[:-1]},
    e.SinkWriteIntended: {"sink": lambda event: "another"},
    e.RunSealed: {"late_arrivals": lambda event: event.late_arrivals + 1, "tokens": lambda event: event.tokens + 1},
}
"""By event: a field, and what it might say otherwise."""


@pytest.mark.parametrize("seed", SEEDS)
def test_an_event_that_says_something_else_is_refused(seed: int) -> None:
    """A3, E10, G1, G11: codes, causes, reasons, triggers, counts: the oracle knows each."""
    found = _whole(seed)
    for n, event in enumerate(found[1]) if found else ():
        for name, other in OTHERWISE.get(type(event), {}).items():
            changed = structs.replace(event, **{name: other(event)})
            if changed != event:
                log = [*found[1][:n], changed, *found[1][n + 1 :]] if found else []
                assert found and _objects(found[0], log), f"{command(seed)}: {changed}"
