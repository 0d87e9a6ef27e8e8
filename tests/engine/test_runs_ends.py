"""How rows come in and how they go out: step 0, quarantine, refusals of sinks, and the outcome of every way."""

from __future__ import annotations

from typing import Any

import pytest

from engine.bound import Transform
from engine.plugin_api import RowError
from ledger import events as e
from tests.kit.forks import Row
from tests.kit.pipelines import Sketch, failing, tried

# --- the source ----------------------------------------------------------------------------------------------------


def quarantining(to: str) -> str:
    """`source -> out`; what is invalid goes to `to`."""
    return Sketch("out", invalid=to).sink("out", "bad").text()


INVALID = ({"n": "x"}, ("bad_type", "n: expected int, found 'x'"))


def test_every_source_row_is_read_once_valid_or_not() -> None:
    """E4, law T3, law T4: one step-0 state a row; nothing else has one."""
    ran = tried(quarantining("bad"), [{"n": 0}, INVALID, {"n": 2}])
    assert [(read.token, read.valid, read.code) for read in ran.of(e.RowRead)] == [
        ("0", True, None), ("1", False, "bad_type"), ("2", True, None),
    ]  # fmt: skip
    assert ran.payload(ran.of(e.RowRead)[1].error) == "n: expected int, found 'x'"


def test_children_and_merged_tokens_have_no_step_0() -> None:
    """E4, law T4: a fork, an expansion and a merge make tokens without a `RowRead`; steps count from 1."""
    sketch = Sketch("rows").fork("split", "rows", "a", "b").join("join", {"a": "a", "b": "b"}, "require_all", "merged")
    sketch.step("parts", "merged", "out", expands=True).sink("out")
    ran = tried(sketch.text(), [{"n": 0}], {"parts": lambda row: [row, row]})
    assert [read.token for read in ran.of(e.RowRead)] == ["0"]
    assert set(ran.outcomes) == {"0", "0.a", "0.b", "0+join", "0+join:0", "0+join:1"}
    assert min(node.step for node in ran.graph.nodes if node.kind != "source") == 1


def test_a_quarantined_row_leaves_from_the_source_by_its_own_edge() -> None:
    """E5: the divert on `__quarantine__` refers to the row's own error."""
    ran = tried(quarantining("bad"), [INVALID])
    assert ran.told() == [
        "RowRead 0 invalid bad_type",
        "Diverted 0 quarantine source > bad by source:__quarantine__ bad_type",
        "SourceExhausted 1",
        "SinkWriteIntended bad 0",
        "SinkWriteConfirmed bad 1",
        "RunSealed completed",
    ]
    error = ran.one(e.RowRead).error
    assert error is not None
    assert ran.one(e.Diverted).reason == error.n
    assert (ran.outcomes, ran.rows("bad")) == ({"0": "quarantined"}, [{"n": "x"}])


def test_a_discarded_source_row_still_has_row_token_reason_and_end() -> None:
    """E6, E2: nothing is dropped without a trace."""
    ran = tried(quarantining("discard"), [INVALID, {"n": 1}])
    assert ran.told()[:2] == ["RowRead 0 invalid bad_type", "Diverted 0 quarantine source > discard by None bad_type"]
    assert ran.payload(ran.of(e.RowRead)[0].data) == {"n": "x"}
    assert ran.payload(ran.one(e.Diverted).reason) == "n: expected int, found 'x'"
    assert ran.outcomes == {"0": "quarantined", "1": "completed"}
    assert ran.receipt.rows == 2


@pytest.mark.parametrize("row", ["a line", ["a", "list"], None, 7])
def test_an_invalid_row_that_is_no_object_is_kept_as_it_came(row: object) -> None:
    """E4, E5: the record has what was read; a sink gets it as a field."""
    ran = tried(quarantining("bad"), [(row, ("not_an_object", "expected an object"))])
    assert ran.payload(ran.one(e.RowRead).data) == row
    assert ran.rows("bad") == [{"value": row}]


# --- sinks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "code"), [("refuse", "refused_by_twin"), ("refuse_late", "refused_by_target")])
def test_what_a_sink_refuses_goes_to_its_failsink(field: str, code: str) -> None:
    """E1, law R1, law R3: refused before the write or by the target: a divert, a second write, the end `diverted`."""
    text = Sketch("out").sink("out", on_write_failure="spare").sink("spare").text()
    ran = tried(text, [{"n": 0}, {"n": 1, field: ["out"]}])
    if field == "refuse":
        assert ran.told()[3:] == [
            "SinkWriteIntended out 0,1",
            f"SinkWriteConfirmed out 1 refused 1:{code}",
            f"Diverted 1 sink_refused out > spare by out:__failsink__ {code}",
            "SinkWriteIntended spare 1",
            "SinkWriteConfirmed spare 1",
            "RunSealed completed",
        ]
        assert ran.rows("spare") == [{"n": 1, "refuse": ["out"]}]
        assert ran.outcomes == {"0": "completed", "1": "diverted"}
    else:
        assert [line for line in ran.told() if "Diverted" in line] == [
            f"Diverted 1 sink_refused out > spare by out:__failsink__ {code}",
            f"Diverted 1 sink_refused spare > discard by None {code}",
        ]


def test_a_failsink_that_refuses_too_discards() -> None:
    """E2: the last sink to refuse decides, even when the failsink has a failsink of its own."""
    text = (Sketch("out").sink("out", on_write_failure="spare").sink("spare", on_write_failure="third").sink("third")
            .text())  # fmt: skip
    ran = tried(text, [{"n": 0, "refuse": ["out", "spare"]}])
    assert [line for line in ran.told() if "Diverted" in line] == [
        "Diverted 0 sink_refused out > spare by out:__failsink__ refused_by_twin",
        "Diverted 0 sink_refused spare > discard by None refused_by_twin",
    ]
    assert ran.outcomes == {"0": "diverted"}
    assert ran.rows("third") == []


def test_what_is_refused_and_discarded_keeps_its_reason() -> None:
    """E2, E6: no edge, but an outcome and the sink's own words."""
    ran = tried(Sketch("out").sink("out").text(), [{"n": 0, "refuse": True}])
    assert ran.told()[2:-1] == [
        "SinkWriteIntended out 0",
        "SinkWriteConfirmed out 0 refused 0:refused_by_twin",
        "Diverted 0 sink_refused out > discard by None refused_by_twin",
    ]
    assert ran.payload(ran.one(e.Diverted).reason) == "it said so"
    assert ran.outcomes == {"0": "diverted"}


def test_an_error_sink_that_refuses_diverts_too() -> None:
    """E1, law R1: a row can leave twice; each time has its event, and the last sink gives the end."""
    text = Sketch("rows").step("step", "rows", "out", "errors").sink("out", "spare")
    text = text.sink("errors", on_write_failure="spare")
    ran = tried(text.text(), [{"n": 0, "refuse": ["errors"]}], {"step": failing(lambda: RowError("no", "bad"))})
    assert [line for line in ran.told() if "Diverted" in line] == [
        "Diverted 0 error step > errors by step:__error_step__ bad",
        "Diverted 0 sink_refused errors > spare by errors:__failsink__ refused_by_twin",
    ]
    assert ran.outcomes == {"0": "diverted"}


def test_each_refusal_of_a_write_belongs_to_its_own_row() -> None:
    """Law R3: refused and accepted rows of one write keep their places, also when both kinds of refusal meet."""
    rows: list[dict[str, Any]] = [{"n": n} for n in range(6)]
    rows[1]["refuse"] = rows[4]["refuse"] = ["out"]
    rows[3]["refuse_late"] = True
    ran = tried(Sketch("out").sink("out").text(), rows)
    assert [(one.token, one.code) for one in ran.of(e.Diverted)] == [
        ("1", "refused_by_twin"), ("3", "refused_by_target"), ("4", "refused_by_twin"),
    ]  # fmt: skip
    assert [row["n"] for row in ran.rows("out")] == [0, 2, 5]
    assert {token for token, outcome in ran.outcomes.items() if outcome == "diverted"} == {"1", "3", "4"}


# --- outcomes, filters ---------------------------------------------------------------------------------------------


def test_each_way_out_has_its_own_outcome() -> None:
    """E1, E2, law T6: completed, routed by a gate, routed by an error, quarantined, diverted, filtered, failed, expanded."""
    sketch = Sketch("rows").gate("gate", "rows", "row['way']", {"on": "in", "side": "side", "apart": "in_parts"})
    sketch.step("step", "in", "out", "errors").step("parts", "in_parts", "out", expands=True)
    text = sketch.sink("out", "side", "errors").text()

    def step(row: Row) -> Row | None:
        if row["n"] == 1:
            raise RowError("no")
        return None if row["n"] == 2 else row

    ways = ["on", "on", "on", "side", "nowhere", "on", "apart", "apart"]
    rows: list[object] = [{"n": n, "way": way} for n, way in enumerate(ways)]
    rows[5] = {"n": 5, "way": "on", "refuse": True}
    parts: Transform = lambda row: [row, row] if row["n"] == 6 else []  # noqa: E731
    ran = tried(text, [*rows, INVALID], {"step": step, "parts": parts})
    assert ran.outcomes == {
        "0": "completed", "1": "routed", "2": "dropped_by_filter", "3": "routed", "4": "failed", "5": "diverted",
        "6": "expanded", "6:0": "completed", "6:1": "completed", "7": "dropped_by_filter", "8": "quarantined",
    }  # fmt: skip


def test_a_gate_that_leads_to_a_step_does_not_make_a_row_routed() -> None:
    """E1: `routed` is for a sink that a gate chose; the way through a gate to a step and on is the normal path."""
    text = Sketch("rows").gate("gate", "rows", "True", {"true": "in"}).step("step", "in", "out").sink("out").text()
    assert tried(text, [{"n": 0}]).outcomes == {"0": "completed"}
