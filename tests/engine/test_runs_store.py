"""A store that fails, and a law that is broken while a run goes: what stands is a lawful beginning, and no more was said.

`acknowledged <= recovered <= attempted`: news of finished rows never runs ahead of the record, and no sink was given a
row whose write was not intended on record.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine import run as running
from engine.bound import BoundGate
from engine.loop import Hooks
from ledger import events as e
from ledger.laws import LawBroken
from ledger.store import StoreConflict
from tests.kit.forks import Row, forked
from tests.kit.pipelines import Sketch, trial
from tests.kit.twins import TrialStore

ROWS = 900
FORKED = forked("a", "b", policy="quorum", quorum_count=1).text()


def appends_of_a_whole_run() -> int:
    """How often a run over these rows appends, the ledger's creation included."""
    store = TrialStore()
    trial(FORKED, [{"n": n} for n in range(ROWS)], store=store).go()
    return len(store.appends)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), StoreConflict("tried", "size 1", "size 2")])
def test_a_store_that_fails_at_any_append_leaves_a_lawful_beginning(error: Exception) -> None:
    """W4, law L1: at every append: the error comes out as it is, nothing behind the last commit is acknowledged."""
    total = appends_of_a_whole_run()
    assert total > 6
    for k in range(2, total + 1):
        store = TrialStore(fail_at=k, error=error)
        acknowledged: list[int] = []
        made = trial(FORKED, [{"n": n} for n in range(ROWS)], store=store)
        made.hooks = Hooks(progress=acknowledged.append)
        with pytest.raises(type(error)) as raised:
            made.start()
        assert raised.value is error
        assert len(store.appends) == k - 1
        if k == 2:
            assert store.head(made.run) is None
            continue
        ran = made.left()
        assert sum(acknowledged) <= ran.verdict.rows
        intended = sum(len(event.tokens) for event in ran.of(e.SinkWriteIntended))
        assert len(ran.rows("out")) <= intended
        assert not ran.verdict.sealed
        assert made.sinks["out"].closed is not None


def test_the_check_of_the_failing_store_can_fail() -> None:
    """The same run with a store that keeps everything is sealed: the failures above are those of the store."""
    made = trial(FORKED, [{"n": n} for n in range(ROWS)])
    assert made.go().verdict.sealed


def test_a_law_that_is_broken_live_stores_nothing_of_it() -> None:
    """F3, law R2: what the graph does not allow never is on record; what was lawful before is, and the run can go on."""
    text = Sketch("rows").gate("gate", "rows", "True", {"true": "out"}).sink("out").text()
    made = trial(text, [{"n": n} for n in range(250)])
    gate = made.bound.gates["gate"]

    def condition(row: Row) -> object:
        return "elsewhere" if row["n"] == 230 else True

    made.bound = replace(made.bound, gates={"gate": BoundGate(gate.node, condition, {"true": "out", "elsewhere": "out"})})
    with pytest.raises(LawBroken) as broken:
        made.start()
    assert broken.value.finding.law == "R2"
    assert broken.value.exit_code == 5
    ran = made.left()
    assert (ran.verdict.status, ran.verdict.sealed, ran.verdict.rows) == ("interrupted", False, 231)
    assert ran.told()[-2:] == ["RowRead 230", "RunInterrupted law_broken " + broken.value.where]
    assert len(ran.of(e.Routed)) == 230
    assert len(ran.rows("out")) == 200
    assert made.sinks["out"].closed is False


def test_a_source_that_is_read_ahead_on_a_thread_gives_the_same_run() -> None:
    """C5, law P2: the feed of production and the one that tests step through lead to the same bytes."""
    rows = [{"n": n} for n in range(ROWS)]
    stepped, threaded = trial(FORKED, rows), trial(FORKED, rows)
    ports = threaded.time.ports()
    running.start(threaded.store, threaded.opening(), threaded.bound, ports, Hooks())
    assert threaded.left().verdict.sealed
    assert threaded.store.head(threaded.run) == stepped.go().store.head(stepped.run)


def test_a_run_id_that_exists_is_refused_and_its_log_left_alone() -> None:
    """law L2: a second start under the same id says so and appends nothing."""
    store = TrialStore()
    first = trial(FORKED, [{"n": 0}], store=store)
    first.go()
    before = store.head(first.run)
    with pytest.raises(Exception, match="RUN_EXISTS"):
        trial(FORKED, [{"n": 0}], store=store).start()
    assert store.head(first.run) == before
