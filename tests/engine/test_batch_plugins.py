"""The built-in batch plugins, called directly: what a batch makes, of which members, and whom it rejects; and once each in
a real run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import chain, permutations, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.aggregations.batch_replicate import BatchReplicate
from engine.aggregations.batch_stats import BatchStats
from engine.plugin_api import BatchResult, Derived, RowError
from engine.plugins import Catalog, OptionsInvalid, bind
from engine.rows import INT_MAX, INT_MIN, check_row, freeze
from ledger import events as e
from ledger.merge import same
from tests.kit.pipelines import Sketch, tried

Rows = Sequence[Mapping[str, Any]]

MISSING = object()
NAN, INF = float("nan"), float("inf")
NO_NUMBERS: tuple[object, ...] = (MISSING, None, True, False, "1", "", [1], {"v": 1}, NAN, INF, -INF)
GROUPS: tuple[object, ...] = (
    1, 1.0, True, "1", 0, 0.0, -0.0, False, "", None, "null", [], [1], [1.0], [True], {},
    {"a": 1, "b": 2}, {"a": 1, "b": 2.0},
)  # fmt: skip

NUMBERS = st.integers(INT_MIN, INT_MAX) | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)
SMALL = st.integers(-(2**52), 2**52) | st.floats(-1e300, 1e300)
VALUES = st.one_of(SMALL, SMALL, SMALL, st.sampled_from(NO_NUMBERS))
KEYS = st.sampled_from((MISSING, *GROUPS, {"b": 2, "a": 1}))
MEMBERS = st.lists(st.tuples(VALUES, KEYS), max_size=12)


def member(**fields: object) -> dict[str, Any]:
    """A row, without the fields that are missing."""
    return {name: value for name, value in fields.items() if value is not MISSING}


def called(plugin: Callable[[Rows], BatchResult], rows: Rows) -> tuple[list[Derived], dict[int, str]]:
    """The outputs, and the code of each rejected member; whatever the batch is, each member is one or the other."""
    result = plugin([freeze(row) for row in rows])
    made = list(result.rows)
    outputs = [one for one in made if isinstance(one, Derived)]
    rejected = {one.ordinal: one.code for one in result.rejected}
    parents = set(chain.from_iterable(one.parents for one in outputs))
    assert len(outputs) == len(made) and len(rejected) == len(result.rejected)
    assert parents | rejected.keys() == set(range(len(rows))) and not parents & rejected.keys()
    assert all(check_row(dict(one.row)) is None for one in outputs)
    return outputs, rejected


def refusal(make: Callable[..., object], **options: object) -> str:
    """What a plugin says of options that cannot work."""
    with pytest.raises(ValueError, match=r"expected .*, found") as refused:
        make(**options)
    return str(refused.value)


def reasons(result: BatchResult) -> list[str]:
    """Why members were rejected."""
    return [one.reason for one in result.rejected]


# --- batch_stats -------------------------------------------------------------------------------------------------


def sum_of(numbers: Sequence[int | float]) -> int | float:
    """By definition: the int, or with a float among them the double nearest to the true sum."""
    if all(type(number) is int for number in numbers):
        return sum(numbers)
    return float(sum(map(Fraction, numbers)))


def is_number(value: object) -> bool:
    """Whether it counts; `NO_NUMBERS` are all that do not."""
    return not any(value is other for other in NO_NUMBERS)


@given(MEMBERS)
def test_each_group_counts_its_own_members_and_no_other(members: list[tuple[Any, Any]]) -> None:
    """G11: count, sum, mean and parents of each group, in the order of first members; the rest are rejected."""
    outputs, rejected = called(BatchStats(value_field="v", group_by="g"), [member(v=v, g=g) for v, g in members])
    expected: list[tuple[Any, list[int]]] = []
    for ordinal, (value, group) in enumerate(members):
        if not is_number(value) or group is MISSING:
            assert rejected[ordinal] == ("field_missing" if MISSING in (value, group) else "not_number")
            continue
        known = next((ordinals for other, ordinals in expected if same(other, group)), None)
        if known is None:
            expected.append((group, known := []))
        known.append(ordinal)
    assert [one.parents for one in outputs] == [tuple(ordinals) for _, ordinals in expected]
    for output, (group, ordinals) in zip(outputs, expected, strict=True):
        total = sum_of([members[ordinal][0] for ordinal in ordinals])
        row = {"g": group, "count": len(ordinals), "sum": total, "batch_size": len(members), "mean": total / len(ordinals)}
        assert same(dict(output.row), freeze(row)) and [*output.row] == [*row]


@given(MEMBERS, st.randoms(use_true_random=False))
def test_the_order_of_members_changes_no_sum(members: list[tuple[Any, Any]], random: Any) -> None:
    """A batch adds up to the same, bit for bit, in whatever order its rows came."""
    plugin = BatchStats(value_field="v", group_by="g")
    shuffled = random.sample(members, len(members))
    told = [Counter(repr([one.row[name] for name in ("count", "sum", "batch_size", "mean")])
                    for one in called(plugin, [member(v=v, g=g) for v, g in order])[0]) for order in (members, shuffled)]
    assert told[0] == told[1]


def test_groups_are_told_apart_as_json_values() -> None:
    """Each pair of values: `1`, `1.0`, `true` and `"1"` are four groups, also within lists and objects."""
    plugin = BatchStats(value_field="v", group_by="g")
    for one, other in product(range(len(GROUPS)), repeat=2):
        outputs, _ = called(plugin, [{"v": 1, "g": GROUPS[one]}, {"v": 1, "g": GROUPS[other]}])
        assert len(outputs) == (1 if one == other else 2), (GROUPS[one], GROUPS[other])
        assert same(outputs[0].row["g"], freeze({"g": GROUPS[one]})["g"])
    outputs, _ = called(plugin, [{"v": 1, "g": {"a": [1], "b": {}}}, {"v": 2, "g": {"b": {}, "a": [1]}}])
    assert [(one.row["g"], one.row["sum"]) for one in outputs] == [({"a": [1], "b": {}}, 3)]


def test_a_batch_without_group_by_is_one_group() -> None:
    """G11: its parents are the members it counts, and `batch_size` counts the rejected one too."""
    rows: Rows = [{"v": 2, "g": 1}, {"v": "x", "g": 1}, {"v": 3}]
    outputs, rejected = called(BatchStats(value_field="v"), rows)
    assert outputs == [({"count": 2, "sum": 5, "batch_size": 3, "mean": 2.5}, (0, 2))]
    assert rejected == {1: "not_number"}
    outputs, _ = called(BatchStats(value_field="v", compute_mean=False), rows)
    assert outputs == [({"count": 2, "sum": 5, "batch_size": 3}, (0, 2))]


def test_a_group_may_be_the_number_itself() -> None:
    """`group_by` and `value_field` are one field."""
    outputs, _ = called(BatchStats(value_field="v", group_by="v", compute_mean=False), [{"v": 2}, {"v": 3}, {"v": 2}])
    assert outputs == [({"v": 2, "count": 2, "sum": 4, "batch_size": 3}, (0, 2)),
                       ({"v": 3, "count": 1, "sum": 3, "batch_size": 3}, (1,))]  # fmt: skip


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("group", [MISSING, "a"])
def test_a_member_that_cannot_be_counted_is_nobodys_parent(value: object, group: object) -> None:
    """G11: nothing that is no finite number counts; alone it makes no row at all."""
    plugin = BatchStats(value_field="v", group_by="g")
    bad = member(v=value, g=group)
    good: dict[str, Any] = {"v": 1, "g": "a"}
    code = "field_missing" if MISSING in (value, group) else "not_number"
    assert called(plugin, [bad]) == ([], {0: code})
    outputs, rejected = called(plugin, [bad, good, bad])
    assert [(one.parents, one.row["count"], one.row["batch_size"]) for one in outputs] == [((1,), 1, 3)]
    assert rejected == {0: code, 2: code}


def test_the_reasons_say_what_was_expected_and_found() -> None:
    """G11: each rejected member has its own; a long value is cut."""
    rows: Rows = [{}, {"v": 1}, {"v": None, "g": 1}, {"v": "x" * 1000, "g": 1}, {"v": [1], "g": 1}]
    told = reasons(BatchStats(value_field="v", group_by="g")(rows))
    number = "expected a finite number in field 'v', found "
    assert told[:3] == ["expected field 'v', found none", "expected field 'g', found none", f"{number}null"]
    assert told[3].startswith(f"{number}'xxx") and len(told[3]) < 150
    assert told[4] == f"{number}a list"


def test_a_batch_without_members_makes_nothing() -> None:
    """Neither with groups nor without."""
    assert called(BatchStats(value_field="v"), []) == ([], {})
    assert called(BatchStats(value_field="v", group_by="g"), []) == ([], {})


@pytest.mark.parametrize(("numbers", "total"), [
    ([INT_MAX], INT_MAX), ([INT_MIN], INT_MIN), ([INT_MAX, INT_MIN], -1), ([INT_MAX, 1], None), ([INT_MIN, -1], None),
    ([INT_MAX, 1, -1], INT_MAX), ([INT_MAX, INT_MAX, INT_MIN, INT_MIN, 2], 0), ([2**53, 1], 2**53 + 1),
    ([INT_MAX, INT_MAX, 0.0], 2.0**64), ([1, 1.0], 2.0), ([0.1] * 10, 1.0), ([1e16, 1, -1e16], 1.0),
    ([1e308, 1e308], None), ([-1e308, -1e308, 1], None), ([1e308, 1e308, -1e308], 1e308),
    ([1.7e308, 1.7e308, -1.7e308, 1], 1.7e308), ([5e-324, 5e-324], 1e-323), ([-0.0], 0.0), ([-0.0, 0], 0.0),
    ([2**53 + 1, -(2**53), 0.5], 1.5), ([INT_MAX, INT_MIN, 0.5], -0.5),
])  # fmt: skip
def test_sums_are_exact_or_fail_the_batch(numbers: list[int | float], total: int | float | None) -> None:
    """In every order: ints stay ints of 64 bits, doubles are rounded once, and what no row can hold is a row error."""
    plugin = BatchStats(value_field="v")
    for order in permutations(numbers) if len(numbers) < 5 else [numbers, numbers[::-1]]:
        rows = [{"v": number} for number in order]
        if total is None:
            with pytest.raises(RowError, match=r"expected a .*sum of field 'v'") as raised:
                plugin(rows)
            assert raised.value.code == "sum_too_large"
        else:
            (output,), _ = called(plugin, rows)
            assert same(output.row["sum"], total) and same(output.row["mean"], total / len(numbers))


@given(st.lists(NUMBERS, min_size=1, max_size=8))
def test_a_sum_is_a_number_that_a_row_can_hold_or_a_row_error(numbers: list[int | float]) -> None:
    """Any numbers at all, to the ends of both kinds."""
    try:
        total = sum_of(numbers)
    except OverflowError:
        total = INF
    fits = total not in (INF, -INF) and (isinstance(total, float) or INT_MIN <= total <= INT_MAX)
    try:
        (output,), _ = called(BatchStats(value_field="v"), [{"v": number} for number in numbers])
    except RowError:
        assert not fits
    else:
        assert fits and same(output.row["sum"], total)


def test_a_group_field_never_takes_an_outputs_name() -> None:
    """D2: refused when the pipeline is built; without a mean its name is free."""
    for name in ("count", "sum", "batch_size", "mean"):
        assert refusal(BatchStats, value_field="v", group_by=name) == (
            f"expected a group_by other than count, sum, batch_size, mean, found {name!r}")
    assert refusal(BatchStats, value_field="v", group_by="sum", compute_mean=False)
    outputs, _ = called(BatchStats(value_field="v", group_by="mean", compute_mean=False), [{"v": 1, "mean": "m"}])
    assert outputs[0].row == {"mean": "m", "count": 1, "sum": 1, "batch_size": 1}


# --- batch_replicate ---------------------------------------------------------------------------------------------


COPIES: tuple[object, ...] = (MISSING, -1, 0, 1, 2, 3, 4, INT_MAX, INT_MIN, None, True, False, 1.0, 2.5, "2", [2], {})


def copies_of(row: Mapping[str, Any], default: int, most: int, index: bool) -> int | str:
    """How many copies a row must have, or the code it is rejected with."""
    asked = row.get("copies", default)
    if type(asked) is not int:
        return "not_int"
    if not 1 <= asked <= most:
        return "copies_out_of_range"
    return "field_collision" if index and "copy_index" in row else asked


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize(("default", "most"), [(1, 1), (1, 3), (2, 3), (3, 3)])
def test_each_member_is_copied_as_often_as_it_says(default: int, most: int, index: bool) -> None:
    """G11: every pair of members; each copy's one parent is its member, and a rejected one has no copy."""
    plugin = BatchReplicate(default_copies=default, max_copies=most, include_copy_index=index)
    rows = [member(id="x", copies=copies, copy_index=taken) for copies in COPIES for taken in (MISSING, 0)]
    for pair in product(rows, repeat=2):
        outputs, rejected = called(plugin, pair)
        expected: list[tuple[dict[str, Any], tuple[int]]] = []
        for ordinal, row in enumerate(pair):
            copies = copies_of(row, default, most, index)
            if isinstance(copies, str):
                assert rejected[ordinal] == copies
                continue
            assert ordinal not in rejected
            expected += [({**row, "copy_index": n} if index else row, (ordinal,)) for n in range(copies)]
        assert outputs == expected


@given(st.lists(st.tuples(st.sampled_from(COPIES), st.integers(0, 9)), max_size=6))
def test_copies_stand_together_in_the_members_order(members: list[tuple[Any, int]]) -> None:
    """G11: whatever the batch, the parents rise, and each accepted member has exactly its copies, numbered from 0."""
    rows = [member(times=times, other=other) for times, other in members]
    outputs, _ = called(BatchReplicate(copies_field="times", max_copies=4), rows)
    parents = [one.parents[0] for one in outputs]
    assert parents == sorted(parents)
    counted = Counter(parents)
    assert counted == {n: rows[n].get("times", 1) for n in counted}
    assert [one.row["copy_index"] for one in outputs] == [n for count in counted.values() for n in range(count)]


def test_the_reasons_of_rejected_members_name_the_field() -> None:
    """G11: each rejected member has its own."""
    told = reasons(BatchReplicate(max_copies=3)([{"copies": "2"}, {"copies": 4}, {"copies": True}, {"copy_index": 0}]))
    assert told == [
        "expected an int in field 'copies', found '2'", "expected 1 to 3 copies in field 'copies', found 4",
        "expected an int in field 'copies', found True", "expected no field 'copy_index' before the copies, found one",
    ]  # fmt: skip


def test_numbers_of_copies_that_cannot_be_are_refused_at_once() -> None:
    """D2: when the pipeline is built, not when the first row comes."""
    for default, most in product(range(-1, 5), range(-1, 5)):
        if 1 <= default <= most:
            BatchReplicate(default_copies=default, max_copies=most)
        else:
            refusal(BatchReplicate, default_copies=default, max_copies=most)
    assert refusal(BatchReplicate, default_copies=5, max_copies=4) == (
        "expected default_copies from 1 to 4 (max_copies), found 5")
    assert refusal(BatchReplicate, max_copies=0) == "expected max_copies of 1 or more, found 0"
    assert refusal(BatchReplicate, copies_field="copy_index") == (
        "expected a copies_field other than 'copy_index' with include_copy_index, found the same")
    assert list(BatchReplicate(copies_field="copy_index", include_copy_index=False)([{"copy_index": 2}]).rows) == [
        ({"copy_index": 2}, (0,))] * 2


# --- through the plugin machinery, and in a run --------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options", "wrong", "row", "made"), [
    ("batch_stats", {"value_field": "v", "group_by": "g", "compute_mean": False},
     [{}, {"value_field": None}, {"value_field": "v", "group_by": "sum"}, {"value_field": "v", "by": "g"}],
     {"v": 1, "g": "a"}, {"g": "a", "count": 1, "sum": 1, "batch_size": 1}),
    ("batch_stats", {"value_field": "v"}, [], {"v": 1, "g": "a"}, {"count": 1, "sum": 1, "batch_size": 1, "mean": 1.0}),
    ("batch_replicate", {"copies_field": "n", "default_copies": 1, "max_copies": 3, "include_copy_index": False},
     [{"max_copies": 0}, {"default_copies": 2, "max_copies": 1}, {"default_copies": "many"}, {"times": 2}],
     {"n": 1}, {"n": 1}),
    ("batch_replicate", {}, [], {"a": 1}, {"a": 1, "copy_index": 0}),
])  # fmt: skip
def test_the_options_are_those_of_the_contract(
    name: str, options: dict[str, object], wrong: list[dict[str, object]], row: dict[str, object], made: dict[str, object]
) -> None:
    """G11: found by name as an aggregation; unknown, missing and impossible options are refused."""
    plugin = Catalog().find("aggregation", name)
    assert (plugin.expands, plugin.effect) == (False, False)
    assert list(bind(plugin, options)([freeze(row)]).rows) == [(made, (0,))]
    for bad in wrong:
        with pytest.raises(OptionsInvalid):
            bind(plugin, bad)


def test_a_runs_record_has_each_groups_real_parents() -> None:
    """G11: two groups of one batch, two rejected members that leave by `on_error` and are nobody's parents."""
    sketch = Sketch("rows").batch("stats", "rows", "out", "errors", plugin="batch_stats",
                                  options={"value_field": "v", "group_by": "g"})
    rows: list[dict[str, object]] = [{"v": 1, "g": "a"}, {"v": "?", "g": "a"}, {"v": 2.5, "g": "b"}, {"v": 3, "g": "a"},
                                     {"v": 4}]
    ran = tried(sketch.sink("out", "errors").text(), rows)
    flushed = ran.one(e.BatchFlushed)
    assert [(one.ordinal, one.code) for one in flushed.rejected] == [(1, "not_number"), (4, "field_missing")]
    assert [one.parents for one in flushed.outputs or ()] == [(0, 3), (2,)]
    assert ran.rows("out") == [{"g": "a", "count": 2, "sum": 4, "batch_size": 5, "mean": 2.0},
                               {"g": "b", "count": 1, "sum": 2.5, "batch_size": 5, "mean": 2.5}]  # fmt: skip
    assert ran.rows("errors") == [rows[1], rows[4]]


def test_a_runs_record_has_each_copys_one_parent() -> None:
    """G11: three copies, one without a field, and a member that asked for none."""
    sketch = Sketch("rows").batch("again", "rows", "out", "errors", plugin="batch_replicate", options={})
    ran = tried(sketch.sink("out", "errors").text(), [{"copies": 3}, {"copies": 0}, {"id": 1}])
    flushed = ran.one(e.BatchFlushed)
    assert [(one.ordinal, one.code) for one in flushed.rejected] == [(1, "copies_out_of_range")]
    assert [one.parents for one in flushed.outputs or ()] == [(0,), (0,), (0,), (2,)]
    assert ran.rows("out") == [*({"copies": 3, "copy_index": n} for n in range(3)), {"id": 1, "copy_index": 0}]
    assert ran.rows("errors") == [{"copies": 0}]


def test_a_sum_that_no_row_can_hold_fails_its_batch_not_the_run() -> None:
    """G12: every member leaves by `on_error` with its reason on record, and the next batch is computed."""
    sketch = Sketch("rows").batch("stats", "rows", "out", "errors", plugin="batch_stats", options={"value_field": "v"},
                                  trigger={"count": 2})
    rows = [{"v": INT_MAX}, {"v": 1}, {"v": 1}, {"v": 2}]
    ran = tried(sketch.sink("out", "errors").text(), rows)
    assert (ran.one(e.BatchFailed).code, ran.rows("errors")) == ("sum_too_large", rows[:2])
    assert ran.rows("out") == [{"count": 2, "sum": 3, "batch_size": 2, "mean": 1.5}]
