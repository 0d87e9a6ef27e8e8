"""Any batch plugins over any rows: batches partition what arrived, parents are as the plugin said, every token ends once.

Two aggregations in a row, with plugins whose every answer is drawn from a seed, their name and how often they were called.
What they were given and what they answered is kept, and compared with what the log says. A failure prints all that was
drawn; `Drawn(...).go()` runs it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any, NamedTuple

import msgspec
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from engine.plugin_api import BatchResult, Derived, Rejected, RowError
from ledger import events as e
from tests.kit.batches import Batch, Rows, batches
from tests.kit.pipelines import Ran, Sketch, tried
from tests.kit.ports import SimulatedTime
from tests.kit.twins import Pause

NAMES = ("one", "two")
CONDITIONS: Mapping[str, Callable[[int, float], bool]] = {
    "batch_count >= 3": lambda count, age: count >= 3,
    "batch_age_seconds > 1": lambda count, age: age > 1,
    "batch_count == 2 and batch_age_seconds >= 0.5": lambda count, age: count == 2 and age >= 0.5,
    "6 // (batch_count - 2) < 6": lambda count, age: count == 1 or count > 3,
}
"""What each says, by another way; the last one raises at two members."""
SOMETIMES = {"count", "timeout", "condition", "end_of_source", "retryable", "retries_exhausted", "told_to", "plugin_raised",
             "bad_output", "rejected", "all rejected", "nothing", "named", "all", "dropped", "passed on",
             "unchanged"}  # fmt: skip
unhurried = [HealthCheck.too_slow, HealthCheck.data_too_large]
slow = settings(max_examples=50, deadline=None, print_blob=True, suppress_health_check=unhurried)


class Call(NamedTuple):
    """One call of a plugin: the rows it got, and what it gave (None when it raised or gave nonsense)."""

    rows: list[dict[str, Any]]
    gave: BatchResult | None


class Answers:
    """What the plugins do."""

    def __init__(self, seed: int, time: SimulatedTime) -> None:
        self._seed = seed
        self._time = time
        self.calls: dict[str, list[Call]] = {name: [] for name in NAMES}

    def plugin(self, name: str, passes: bool) -> Callable[[Rows], object]:
        """Mostly a result; sometimes it fails, for good or not, or gives nonsense; now and then it takes its time."""

        def answer(rows: Rows) -> object:
            calls = self.calls[name]
            draw = Random(f"{self._seed}/{name}/{len(calls)}")
            calls.append(Call([dict(row) for row in rows], None))
            self._time.advance_ms(draw.choice([0, 0, 0, 0, 40, 400, 6000]))
            fate = draw.random()
            if fate < 0.18:
                raise draw.choice([OSError("busy"), OSError("busy"), RowError("told to", "told_to"), SystemExit(3)])
            if fate < 0.22:
                return draw.choice([None, 7, [None], [Derived({}, ())], BatchResult([], [Rejected(len(rows), "x")])])
            result = self._result(rows, passes, draw)
            calls[-1] = calls[-1]._replace(gave=result)
            return result

        return answer

    def _result(self, rows: Rows, passes: bool, draw: Random) -> BatchResult:
        share = draw.choice([0.0, 0.0, 0.4, 0.4, 1.0])
        refused = [n for n in range(len(rows)) if draw.random() < share]
        kept = [n for n in range(len(rows)) if n not in refused]
        rejected = [Rejected(n, f"member {n}", "odd") for n in refused]
        draw.shuffle(rejected)
        if passes:
            return BatchResult([rows[n] if draw.random() < 0.5 else {**rows[n], "seen": n} for n in kept], rejected)
        made = [self._row(rows, kept, draw) for _ in range(draw.randrange(4))] if kept else []
        return BatchResult(made, rejected)

    def _row(self, rows: Rows, kept: list[int], draw: Random) -> Any:
        row = {"made": draw.randrange(1000)}
        if draw.random() < 0.3:
            return row
        parents = tuple(draw.sample(kept, draw.randint(1, len(kept))))
        return Derived(row if draw.random() < 0.7 else rows[parents[0]], parents)


class Drawn(NamedTuple):
    """A trigger and a mode for each of the two, the attempts, the rows, and the seed of the answers."""

    triggers: tuple[Mapping[str, object], Mapping[str, object]]
    modes: tuple[str, str]
    on_errors: tuple[str, str]
    attempts: int
    delay_seconds: float
    rows: list[object]
    seed: int

    def go(self) -> tuple[Ran, Answers]:
        """Run it, and keep what the plugins were asked."""
        note(repr(self))
        sketch = Sketch("rows", attempts=self.attempts, delay_seconds=self.delay_seconds)
        for place, (name, input_, to) in enumerate(zip(NAMES, ("rows", "between"), ("between", "out"), strict=True)):
            sketch.batch(name, input_, to, self.on_errors[place], trigger=self.triggers[place],
                         output_mode=self.modes[place])  # fmt: skip
        time = SimulatedTime()
        answers = Answers(self.seed, time)
        plugins = {name: answers.plugin(name, self.passes(name)) for name in NAMES}
        return tried(sketch.sink("out", "errors").text(), self.rows, plugins, time=time), answers

    def passes(self, name: str) -> bool:
        """Whether the members themselves go on."""
        return self.modes[NAMES.index(name)] == "passthrough"

    def trigger(self, name: str) -> Mapping[str, Any]:
        """What closes its batches."""
        return self.triggers[NAMES.index(name)]


def triggers() -> st.SearchStrategy[Mapping[str, object]]:
    """Any of the three, or none."""
    each = {"count": st.integers(1, 4), "timeout_seconds": st.sampled_from([0.3, 2, 5]),
            "condition": st.sampled_from([*CONDITIONS])}  # fmt: skip
    return st.fixed_dictionaries({}, optional=each)


def rows() -> st.SearchStrategy[list[object]]:
    """Rows with pauses between them."""
    items = st.lists(st.sampled_from([None, None, None, 100, 700, 3000]), min_size=3, max_size=25)
    return items.map(lambda items: [{"n": n} if ms is None else Pause(ms) for n, ms in enumerate(items)])


drawn = st.builds(
    Drawn, st.tuples(triggers(), triggers()), st.tuples(*[st.sampled_from(["transform", "passthrough"])] * 2),
    st.tuples(*[st.sampled_from(["errors", "discard"])] * 2), st.integers(1, 3), st.sampled_from([0.5, 4.0]), rows(),
    st.integers(0, 2**32),
)  # fmt: skip


def of(ran: Ran, name: str) -> list[Batch]:
    """The batches of one aggregation, by number."""
    return [batch for batch in batches(ran.events).values() if batch.aggregation == name]


def sent_on(ran: Ran, made: Drawn, name: str) -> Iterator[tuple[str, Any]]:
    """The tokens that an aggregation sent on with their rows, in the log's order."""
    found = batches(ran.events)
    for event in ran.of(e.BatchFlushed):
        batch = f"{event.aggregation}@{event.batch}"
        for place, output in enumerate(event.outputs or ()):
            if event.aggregation == name:
                own = found[batch].members[output.parents[0]] if made.passes(name) else f"{batch}:{place}"  # type: ignore[index]
                yield own, ran.payload(output.output)


@slow
@given(drawn)
def test_every_token_of_any_batches_has_exactly_one_end(made: Drawn) -> None:
    """F3, law T1, law T6, law T7, law C7: deep replay, integrity and an independent count agree; nothing is left open."""
    ran, _ = made.go()
    assert (ran.receipt.status, ran.verdict.open_tokens) == ("completed", 0)
    assert ran.receipt.outcomes == ran.verdict.outcomes == Counter(ran.outcomes.values())
    at_sinks = sum(event.accepted for event in ran.of(e.SinkWriteConfirmed))
    assert at_sinks == len(ran.rows("out")) + len(ran.rows("errors"))
    assert at_sinks == sum(outcome in ("completed", "routed") for outcome in ran.outcomes.values())


@slow
@given(drawn)
def test_batches_partition_the_tokens_that_arrived(made: Drawn) -> None:
    """law C7: those of the first aggregation in the order of the source, whatever was tried again; of the second all that
    the first one sent on. Numbers count from 1, and each batch closes once.
    """
    ran, _ = made.go()
    for name in NAMES:
        assert [batch.number for batch in of(ran, name)] == [*range(1, len(of(ran, name)) + 1)]
        for batch in of(ran, name):
            closes = [isinstance(end, e.BatchFlushed) or not end.retry for end in batch.ends]
            assert closes == [False] * (len(closes) - 1) + [True]
    members = {name: [token for batch in of(ran, name) for token in batch.members] for name in NAMES}
    assert members["one"] == [event.token for event in ran.of(e.RowRead)]
    assert sorted(members["two"]) == sorted(token for token, _ in sent_on(ran, made, "one"))


@slow
@given(drawn)
def test_a_flush_says_what_the_plugin_gave(made: Drawn) -> None:
    """G11, law C7: every call is one attempt with its members' rows in their order; parents and rejected are as given."""
    ran, answers = made.go()
    carried: dict[str, Any] = {event.token: ran.payload(event.data) for event in ran.of(e.RowRead)}
    for name in NAMES:
        attempts = [(batch, end) for batch in of(ran, name) for end in batch.ends]
        assert len(attempts) == len(answers.calls[name])
        for (batch, end), call in zip(attempts, answers.calls[name], strict=True):
            assert call.rows == [carried[token] for token in batch.members]
            assert isinstance(end, e.BatchFlushed) == (call.gave is not None)
            if isinstance(end, e.BatchFlushed) and call.gave is not None:
                assert said(ran, end) == expected(call.gave, len(batch.members), passes=made.passes(name))
        carried |= dict(sent_on(ran, made, name))


def said(ran: Ran, flush: e.BatchFlushed) -> tuple[list[Any], list[Any]]:
    """Rows with parents, and rejected members with reasons."""
    outputs = [(encoded(ran.payload(one.output)), one.parents) for one in flush.outputs or ()]
    return outputs, [(one.ordinal, one.code, ran.payload(one.reason)) for one in flush.rejected]


def expected(gave: BatchResult, members: int, *, passes: bool) -> tuple[list[Any], list[Any]]:
    """The same, from what the plugin gave."""
    refused = sorted((one.ordinal, one.code, one.reason) for one in gave.rejected)
    kept = iter([n for n in range(members) if n not in {ordinal for ordinal, *_ in refused}])
    outputs = [(encoded(one.row), one.parents) if isinstance(one, Derived)
               else (encoded(one), (next(kept),) if passes else "all") for one in gave.rows]  # fmt: skip
    return outputs, refused


def encoded(row: object) -> bytes:
    """The row's bytes: `1` and `true` differ."""
    return msgspec.json.encode(row)


@slow
@given(drawn)
def test_every_trigger_on_record_is_true_and_was_the_first(made: Drawn) -> None:
    """D5, D6, law C7: decided again from the log's own times and order; all attempts of a batch have one trigger."""
    ran, _ = made.go()
    exhausted = ran.one(e.SourceExhausted).seq
    joined: dict[str, list[int]] = {}
    for event in ran.of(e.TokenBuffered):
        joined.setdefault(f"{event.aggregation}@{event.batch}", []).append(event.active_ms)
    for name in NAMES:
        for batch in of(ran, name):
            assert len({end.trigger for end in batch.ends}) == 1
            check_trigger(batch, made.trigger(name), joined[f"{name}@{batch.number}"], exhausted)


def never(count: int, age: float) -> bool:
    """The condition of a batch that has none."""
    return False


def check_trigger(batch: Batch, trigger: Mapping[str, Any], joined: list[int], exhausted: int) -> None:
    """Whether the first attempt was made for what it says, and no member before the last would have closed the batch."""
    first, count = batch.ends[0], len(batch.members)
    ages = [(at_ms - batch.opened_ms) / 1000 for at_ms in joined]
    limit, condition = trigger.get("count"), CONDITIONS.get(trigger.get("condition", ""), never)
    deadline_ms = batch.opened_ms + 1000 * trigger.get("timeout_seconds", float("inf"))
    early = [n for n, age in enumerate(ages[:-1], 1) if n == limit or condition(n, age)]
    assert early == [] and all(at_ms < deadline_ms for at_ms in joined)
    by_member = "count" if count == limit else "condition" if condition(count, ages[-1]) else None
    if by_member is not None:
        assert (first.trigger, first.active_ms) == (by_member, joined[-1])
    elif first.trigger == "timeout":
        assert first.active_ms >= deadline_ms
    elif first.trigger == "condition":
        assert condition(count, (first.active_ms - batch.opened_ms) / 1000) and first.active_ms < deadline_ms
    else:
        assert first.trigger == "end_of_source" and first.seq > exhausted and first.active_ms < deadline_ms


def test_the_interesting_cases_occur_among_them() -> None:
    """law C7, G11: a property that never meets a case says nothing of it: each of these is met by what is drawn here."""
    met: set[str] = set()

    @settings(max_examples=40, derandomize=True, database=None, deadline=None, suppress_health_check=unhurried)
    @given(drawn)
    def meet(made: Drawn) -> None:
        ran, _ = made.go()
        met.update("dropped" for outcome in ran.outcomes.values() if outcome == "dropped_by_filter")
        for event in ran.events:
            met.update(cases(event, made))

    meet()
    assert SOMETIMES - met == set()


def cases(event: e.Event, made: Drawn) -> Iterator[str]:
    """The names of what happened here, as `SOMETIMES` has them."""
    if isinstance(event, e.BatchFailed):
        yield event.code
    if not isinstance(event, e.BatchFlushed):
        return
    outputs = event.outputs or ()
    yield event.trigger
    if event.rejected:
        yield "rejected" if len(event.rejected) < event.members else "all rejected"
    if not outputs:
        yield "nothing"
    for output in outputs:
        yield "passed on" if made.passes(event.aggregation) else "all" if output.parents == "all" else "named"
        if isinstance(output.output, int):
            yield "unchanged"
