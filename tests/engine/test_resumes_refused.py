"""What a resume refuses before it appends anything: a log that was changed, rows that are gone, another pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from msgspec import structs

from engine import changes
from engine.changes import RunChanged
from engine.plugin_api import SourceIdentity
from engine.unfinished import open_rows, read_back
from ledger import events as e
from ledger import registry
from ledger.errors import CounterfoilError, LedgerBroken, RunIncomplete
from ledger.graph import Graph
from ledger.store import Stored
from tests.kit import tamper
from tests.kit.deaths import Cut, MortalStore, carried_on, cuts, died_at
from tests.kit.pipelines import Sketch, Trial, trial
from tests.kit.ports import EPOCH_US
from tests.kit.small_runs import SMALL, anew, numbered


def cut_short() -> Trial:
    """A run whose process died while three rows were held, and others open."""
    return died_at(SMALL["gathered"], Cut(9, True))


def refused(made: Trial, way: Callable[[], object], kind: type[CounterfoilError], code: str) -> CounterfoilError:
    """The error; nothing was appended."""
    before, events = made.store.head(made.run), list(made.store.read(made.run))
    with pytest.raises(kind) as raised:
        way()
    assert raised.value.code == code
    assert (made.store.head(made.run), list(made.store.read(made.run))) == (before, events)
    return raised.value


# --- a log that was changed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["body", "root", "frontier", "tail", "epoch", "size"])
def test_a_log_that_was_changed_is_refused_before_anything_is_appended(how: str) -> None:
    """law L6: a body edited so that it still decodes, a head that is not the tree's, events that are gone."""
    made = cut_short()
    assert isinstance(made.store, MortalStore)
    stream = made.store._streams[made.run]
    if how == "body":
        place = next(n for n, one in enumerate(stream.events) if one.type == "StepCompleted")
        edited = stream.events[place].body.replace(b'"duration_us":60000', b'"duration_us":60001')
        assert edited != stream.events[place].body
        stream.events[place] = stream.events[place]._replace(body=edited)
    elif how == "tail":
        stream.events.pop()
    else:
        head = stream.head
        other: dict[str, Any] = {"root": bytes(32), "frontier": bytes(len(head.frontier)), "epoch": head.epoch + 1,
                                 "size": head.size + 1}
        stream.head = head._replace(**{how: other[how]})
    for way in (made.resume, made.abandon):
        refused(made, way, LedgerBroken, "LOG_CHANGED")


def test_a_row_that_was_changed_is_refused_before_anything_is_appended() -> None:
    """law L4: each open row is the one that its event commits to."""
    wanted = open_numbers(cut_short())
    assert len(wanted) > 2
    for number in wanted:
        made = cut_short()
        assert isinstance(made.store, MortalStore)
        kept = made.store._streams[made.run].payloads
        kept[number] = kept[number]._replace(bytes=b'{"n":77}')
        refused(made, made.resume, LedgerBroken, "PAYLOAD_CHANGED")
        refused(made, made.abandon, LedgerBroken, "PAYLOAD_CHANGED")


def open_numbers(made: Trial) -> list[int]:
    """The payloads of what is open."""
    return sorted(open_rows(made.store, read_back(made.store, made.run)))


def erase(made: Trial, number: int) -> None:
    """As an erasure leaves it: neither salt nor bytes, and said on the ledger's own stream."""
    assert isinstance(made.store, MortalStore)
    said = e.PayloadErased(erased=made.run, payloads=(number,), who="someone", why="asked to")
    made.store.append([registry.entries(made.store, [said], EPOCH_US)])
    kept = made.store._streams[made.run].payloads
    kept[number] = kept[number]._replace(salt=None, bytes=None)


@pytest.mark.parametrize("name", ["gathered", "crossed", "batch_end", "batch_tried_again", "asked", "refusals"])
def test_an_open_row_that_was_erased_is_gone_and_the_run_can_only_be_abandoned(name: str) -> None:
    """D9, law T1: at every cut, every payload that is open; one that is not open does not matter."""
    whole = SMALL[name](MortalStore())
    whole.go()
    assert isinstance(whole.store, MortalStore)
    for cut in list(cuts(len(whole.store.appends) - 1, 3))[::3]:
        numbers = open_numbers(died_at(SMALL[name], cut))
        for number in numbers[:: max(1, len(numbers) // 2)]:
            made = died_at(SMALL[name], cut)
            erase(made, number)
            gone = refused(made, made.resume, RunIncomplete, "PAYLOAD_GONE")
            assert f"payload {number}" in gone.where
            assert made.abandon().status == "failed"
            assert made.left().verdict.sealed


def test_a_closed_row_that_was_erased_hinders_nobody() -> None:
    """G13: what has ended needs no row any more."""
    made = died_at(SMALL["linear"], Cut(6, True))
    numbers = set(range(2, read_back(made.store, made.run).state.payloads + 1)) - set(open_numbers(made))
    for number in numbers:
        erase(made, number)
    assert carried_on(made).receipt.status == "completed"


# --- another pipeline ------------------------------------------------------------------------------------------------

WAS = Sketch("rows", attempts=2).step("one", "rows", "c", "errors").step("two", "c", "out").sink("out", "errors").text()


def stopped_with(text: str = WAS) -> Trial:
    """A run of the first file over two rows whose source then failed, as the second file would carry it on."""
    rows = [*numbered(2), OSError(5, "EIO"), {"n": 2}]
    first = trial(WAS, rows, store=MortalStore())
    first.go()
    rows.pop(2)
    made = anew(trial(text, rows), first.store)
    made.sinks = first.sinks
    made.bound = replace(made.bound, sinks={**made.sinks})
    return made


@pytest.mark.parametrize(("old", "new", "field", "was", "now"), [
    ('"initial_delay_seconds": 1.0', '"initial_delay_seconds": 0.5', "retry.initial_delay_seconds", "1.0", "0.5"),
    ('"path": "out.jsonl"', '"path": "other.jsonl"', "sinks.out.options.path", '"out.jsonl"', '"other.jsonl"'),
    ('"max_workers": 1', '"max_workers": 3', "concurrency.max_workers", "1", "3"),
    ('"name": "sketch"', '"name": "other"', "name", '"sketch"', '"other"'),
    ('"path": "out.jsonl"', '"path": "out.jsonl", "encoding": "utf-16"', "sinks.out.options.encoding", "nothing",
     '"utf-16"'),
])  # fmt: skip
def test_a_changed_setting_is_refused_field_by_field_and_recorded_when_it_is_accepted(
    old: str, new: str, field: str, was: str, now: str
) -> None:
    """W10, G13: the error names it, was and is; nothing is appended; an accepted one stands in the claim."""
    assert old in WAS
    made = stopped_with(WAS.replace(old, new))
    error = refused(made, made.resume, RunChanged, "PIPELINE_CHANGED")
    assert isinstance(error, RunChanged)
    expected = e.Change(field=field, was=was, now=now)
    assert expected in error.changes
    assert len({change.field for change in error.changes}) == 1
    assert f"{field} changed from {was} to {now}" in error.what
    ran = made.again(accept_changes=True)
    assert ran.receipt.status == "completed"
    assert expected in ran.of(e.RunClaimed)[-1].changes
    assert ran.of(e.RunClaimed)[0].changes == ()


def test_layout_and_comments_are_no_change() -> None:
    """G13: the same settings in other words."""
    made = stopped_with(WAS.replace("{", "{ ").replace(",", " ,") + "\n# a word\n")
    ran = made.again()
    assert ran.of(e.RunClaimed)[-1].changes == ()


@pytest.mark.parametrize("other", [
    Sketch("rows", attempts=3).step("one", "rows", "c", "errors").step("two", "c", "out").sink("out", "errors"),
    Sketch("rows", attempts=2).step("one", "rows", "c", "discard").step("two", "c", "out").sink("out"),
    Sketch("rows", attempts=2).step("one", "rows", "c", "errors").effect("two", "c", "out").sink("out", "errors"),
    Sketch("rows", attempts=2).step("one", "rows", "out", "errors").sink("out", "errors"),
    Sketch("rows", attempts=2).step("one", "rows", "c", "errors").step("other", "c", "out").sink("out", "errors"),
    Sketch("rows", attempts=2).step("one", "rows", "c", "errors").step("two", "c", "out", expands=True)
    .sink("out", "errors"),
])  # fmt: skip
def test_a_graph_of_another_shape_cannot_be_accepted(other: Sketch) -> None:
    """W10, law T9: open tokens stand in the graph on record; abandoning is what is left, whatever the file is now."""
    made = stopped_with(other.text())
    for accept in (False, True):
        error = refused(made, partial(made.resume, accept_changes=accept), RunChanged, "PIPELINE_RESHAPED")
        assert isinstance(error, RunChanged)
        assert any(change.field.startswith("graph.") for change in error.changes)
        assert "abandon" in error.next_step
    assert made.abandon().status == "failed"
    assert made.left().verdict.sealed


def _with_code(made: Trial, version: str, code: str) -> Trial:
    nodes = tuple(structs.replace(node, plugin_version=version, code_hash=code) if node.id == "two" else node
                  for node in made.graph.nodes)
    graph: Graph = structs.replace(made.graph, nodes=nodes)
    made.prepared = replace(made.prepared, pipeline=replace(made.prepared.pipeline, graph=graph))
    return made


def test_a_plugin_of_another_version_or_code_is_a_change() -> None:
    """W10, G13: both are named, with the node."""
    made = _with_code(stopped_with(), "99", "abc")
    error = refused(made, made.resume, RunChanged, "PIPELINE_CHANGED")
    assert isinstance(error, RunChanged)
    assert [change.field for change in error.changes] == ["plugin of two.version", "plugin of two.code"]
    claim = made.again(accept_changes=True).of(e.RunClaimed)[-1]
    assert [(change.field, change.now) for change in claim.changes] == [("plugin of two.version", '"99"'),
                                                                       ("plugin of two.code", '"abc"')]


class _Other:
    def __init__(self, made: Trial) -> None:
        self.rows, self.close = made.source.rows, made.source.close

    def identity(self) -> SourceIdentity:
        return SourceIdentity("list", "", 5, "ab" * 32)


def test_a_source_of_other_content_is_a_change_unless_it_was_read_to_its_end() -> None:
    """W10, G13: size and hash, each named; what is not read any more may change."""
    made = stopped_with()
    made.bound = replace(made.bound, source=_Other(made))
    error = refused(made, made.resume, RunChanged, "PIPELINE_CHANGED")
    assert isinstance(error, RunChanged)
    assert [(change.field, change.was, change.now) for change in error.changes] == [
        ("source size_bytes", "null", "5"), ("source sha256", "null", f'"{"ab" * 32}"')]
    assert made.again(accept_changes=True).receipt.status == "completed"

    ended = died_at(SMALL["linear"], Cut(6, True))
    ended.bound = replace(ended.bound, source=_Other(ended))
    assert ended.again().of(e.RunClaimed)[-1].changes == ()


def test_a_secret_of_another_value_is_named_and_not_told() -> None:
    """G13: values from the environment are compared by fingerprint; the change says that, and nothing of the values."""
    found = changes.secrets({"KEY": "aa", "GONE": "bb", "SAME": "cc"}, {"KEY": "dd", "NEW": "ee", "SAME": "cc"})
    assert [(change.field, change.was, change.now) for change in found] == [
        ("secret GONE", "one value", "nothing"), ("secret KEY", "one value", "another"),
        ("secret NEW", "nothing", "a value"),
    ]  # fmt: skip


def test_more_changes_than_an_event_holds_are_counted() -> None:
    """law L5: the claim stays a body that fits, however much was changed."""
    many = [e.Change(field=f"f{n}", was="x" * 200, now="y" * 200) for n in range(500)]
    kept = changes.bounded(many)
    assert (len(kept), kept[:60], kept[-1].now) == (61, many[:60], "440 more changes")
    assert changes.bounded(many[:60]) == many[:60]


def test_another_working_directory_is_a_change() -> None:
    """G13: relative paths would be other files."""
    made = stopped_with()
    started = read_back(made.store, made.run).started
    assert changes.place(started, "sketch", started.directory) == []
    assert [change.field for change in changes.place(started, "sketch", "elsewhere")] == ["working directory"]


# --- a log that cannot be read ---------------------------------------------------------------------------------------


def _of_the_future(stored: Stored) -> Stored:
    return stored._replace(v=99)


def _unknown(stored: Stored) -> Stored:
    return stored._replace(type="StepSkipped", body=stored.body.replace(b"StepCompleted", b"StepSkipped"))


def _torn(stored: Stored) -> Stored:
    return stored._replace(body=stored.body[:-20])


def _unlawful(stored: Stored) -> Stored:
    return stored._replace(body=stored.body.replace(b'"attempt":1', b'"attempt":2'))


@pytest.mark.parametrize(("fault", "code"), [(_of_the_future, "EVENT_UNREADABLE"), (_unknown, "EVENT_UNREADABLE"),
                                             (_torn, "EVENT_UNREADABLE"), (_unlawful, "LAW_BROKEN")])
def test_an_event_that_cannot_be_read_or_may_not_be_stops_a_resume_at_its_place(
    fault: Callable[[Stored], Stored], code: str
) -> None:
    """W12, law L5: also where the head fits the bytes: nothing is appended, by a resume or by giving the run up."""
    made = cut_short()
    place = next(one.seq for one in made.store.read(made.run) if one.type == "StepCompleted")
    tamper.edit_events(made.store, made.run, lambda events: [fault(one) if one.seq == place else one for one in events])
    tamper.rehash(made.store, made.run)
    for way in (made.resume, made.abandon):
        error = refused(made, way, LedgerBroken, code)
        assert f"run {made.run} seq {place}" in error.where
