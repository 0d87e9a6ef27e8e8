"""Events to bytes and back: every type, the same bytes for the same event, and bodies that are none refused by name."""

from __future__ import annotations

import json
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import events as e
from ledger import upcasters
from ledger.codec import (
    LEDGER_EVENTS,
    RUN_EVENTS,
    TYPE_OF,
    VERSION_OF,
    VERSIONS,
    Undecodable,
    decode,
    encode,
    event_token,
    listed,
)
from ledger.fold import APPLY
from ledger.graph import Graph
from ledger.upcasters import Upcaster, Upcasters
from tests.ledger import arbitrary
from tests.ledger.lawful_many import LAWFUL

KINDS = [*RUN_EVENTS, *LEDGER_EVENTS]
names = [kind.__name__ for kind in KINDS]


def again(body: bytes, kind: type[e.Event]) -> e.Event:
    """What is read back of a body."""
    return decode(body, TYPE_OF[kind], VERSION_OF[kind], run="r", seq=1)


@pytest.mark.parametrize("kind", KINDS, ids=names)
@given(data=st.data())
def test_every_event_is_read_back_as_it_was_written(kind: type[e.Event], data: st.DataObject) -> None:
    """law L5: what we write round-trips, and what is read back is written as the same bytes."""
    event = data.draw(arbitrary.events(kind))
    body = encode(event)
    found = again(body, kind)
    assert found == event and type(found) is kind
    assert encode(found) == body
    assert json.loads(body)["type"] == TYPE_OF[kind] and body.decode() == body.decode("utf-8", "strict")


@given(st.dictionaries(st.text(max_size=4), st.integers(), min_size=2, max_size=6), st.randoms())
def test_the_same_event_gives_the_same_bytes_whatever_the_order_of_its_maps(
    outcomes: dict[str, int], random: Random
) -> None:
    """law L5: maps are sorted, fields stand in declared order."""
    items = list(outcomes.items())
    random.shuffle(items)

    def seal(counts: dict[str, int]) -> bytes:
        return encode(e.RunSealed(status="completed", outcomes=counts, rows=1, tokens=1, late_arrivals=0, size=1, root=""))

    assert seal(outcomes) == seal(dict(items))


@pytest.mark.parametrize(
    ("event", "body"),
    [
        (
            e.RowRead(run="r", seq=3, epoch=1, v=1, at=5, active_ms=0, token="0", row=0, valid=True, position=7,
                      data=e.Commitment(2, "ab")),
            b'{"type":"RowRead","run":"r","seq":3,"epoch":1,"v":1,"at":5,"active_ms":0,"token":"0","row":0,"valid":true,'
            b'"position":7,"data":[2,"ab"]}',
        ),
        (
            e.BatchFlushed(run="r", seq=9, epoch=1, v=1, at=5, active_ms=8, aggregation="t", batch=1, attempt=1,
                           trigger="count", members=3, rejected=(e.RejectedMember(1, "no", None),),
                           outputs=(e.BatchOutput(e.Commitment(4, "cd"), "all"), e.BatchOutput(2, (0, 2))),
                           duration_us=6),
            b'{"type":"BatchFlushed","run":"r","seq":9,"epoch":1,"v":1,"at":5,"active_ms":8,"aggregation":"t","batch":1,'
            b'"attempt":1,"trigger":"count","members":3,"rejected":[[1,"no",null]],'
            b'"outputs":[[[4,"cd"],"all"],[2,[0,2]]],"duration_us":6}',
        ),
        (
            e.CoalesceFailed(run="r", seq=9, epoch=1, v=1, at=5, active_ms=8, coalesce="j", group="0+j",
                             trigger="branch_lost", reason="branch_lost:b",
                             facts=e.GroupFacts(policy="require_all", merge_strategy="union",
                                                expected_branches=("a", "b"), arrival_order=(e.Arrival("a", "0.a", 0),),
                                                branches_lost=(e.Loss("b", "filtered:s"),), branches_missing=(),
                                                wait_duration_ms=3)),
            b'{"type":"CoalesceFailed","run":"r","seq":9,"epoch":1,"v":1,"at":5,"active_ms":8,"coalesce":"j",'
            b'"group":"0+j","trigger":"branch_lost","reason":"branch_lost:b","facts":{"policy":"require_all",'
            b'"merge_strategy":"union","expected_branches":["a","b"],"arrival_order":[["a","0.a",0]],'
            b'"branches_lost":[["b","filtered:s"]],"branches_missing":[],"wait_duration_ms":3}}',
        ),
    ],
    ids=["RowRead", "BatchFlushed", "CoalesceFailed"],
)
def test_a_shape_once_written_stays(event: e.Event, body: bytes) -> None:
    """law L5: logs that exist hold these bytes; an edit of a shape needs a version and an upcaster."""
    assert encode(event) == body
    assert again(body, type(event)) == event


def test_every_type_has_an_explicit_name_and_a_version() -> None:
    """law L5: the stored name is said in the class, never derived from where the class stands."""
    assert {TYPE_OF[kind] for kind in KINDS} == set(VERSIONS) and len(VERSIONS) == len(KINDS)
    assert all(version >= 1 for version in VERSIONS.values())
    assert {kind for kind in e.Event.__subclasses__() if kind.__module__.startswith(e.__name__)} == set(KINDS)
    assert all(kind.__struct_config__.frozen and not kind.__struct_config__.gc for kind in KINDS)


def test_every_event_of_a_run_has_its_place_in_the_fold() -> None:
    """F1: the one dispatch table is complete, and holds nothing of the ledger's own stream."""
    assert set(APPLY) == set(RUN_EVENTS)


def test_every_event_of_a_run_occurs_in_a_lawful_log() -> None:
    """The logs of these tests leave no event out."""
    assert {type(event) for build in LAWFUL.values() for event in build().said} == set(RUN_EVENTS)


ROUTED = b'{"type":"Routed","token":"0","node":"g","label":"go","edge":"g:go"}'
NESTED = (b"[" * 50_000 + b"]" * 50_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b"[" * 50_000)
DEEP = [prefix + nested + b"}" for nested in NESTED
        for prefix in (b'{"type":', b'{"more":', b'{"type":"Routed","more":', b'{"type":"Routed","token":')]
"""Bodies with a value nested deeper than anybody reads: as the type, before it, after it, in place of a field."""


@pytest.mark.parametrize(
    ("body", "type_", "version", "words"),
    [
        (ROUTED, "StepSkipped", 1, "StepSkipped version 1 (no such type is known)"),
        (ROUTED, "Routed", 2, "Routed version 2 (Routed is known at version 1)"),
        (ROUTED, "Routed", 0, "Routed version 0 (Routed is known at version 1)"),
        (ROUTED, "", 1, "version 1 (no such type is known)"),
        (b"", "Routed", 1, "a Routed that does not decode"),
        (b"{", "Routed", 1, "a Routed that does not decode"),
        (b"null", "Routed", 1, "a Routed that does not decode"),
        (b"[]", "Routed", 1, "a Routed that does not decode"),
        (b'{"type":"StepSkipped"}', "Routed", 1, "a Routed that does not decode"),
        (b'{"token":"0","node":"g","label":"go","edge":"g:go"}', "Routed", 1, "a Routed that does not decode"),
        (b'{"type":"Routed","token":"0","node":"g"}', "Routed", 1, "a Routed that does not decode"),
        (ROUTED.replace(b'"0"', b"0"), "Routed", 1, "a Routed that does not decode"),
        (ROUTED.replace(b"}", b',"more":1}'), "Routed", 1, "a Routed that does not decode"),
        (ROUTED.replace(b"go", b"\xff"), "Routed", 1, "a Routed that does not decode"),
        (ROUTED + b"x", "Routed", 1, "a Routed that does not decode"),
        (b'{"type":"Routed","token":"\\ud800","node":"g","label":"go","edge":"e"}', "Routed", 1, "does not decode"),
        (b"[" * 100_000, "Routed", 1, "a Routed that does not decode"),
        *((body, "Routed", 1, "a Routed that does not decode") for body in DEEP),
    ],
)
def test_a_body_that_is_no_known_event_is_refused_with_its_place(
    body: bytes, type_: str, version: int, words: str
) -> None:
    """W12, law L5: an unknown type, a version of the future, bad bytes: typed, with run and seq, and never skipped."""
    with pytest.raises(Undecodable) as raised:
        decode(body, type_, version, run="r", seq=9)
    assert words in raised.value.found and (raised.value.run, raised.value.seq) == ("r", 9)
    assert str(raised.value).startswith("EVENT_UNREADABLE: ") and "run r seq 9" in str(raised.value)
    assert "\n" not in str(raised.value) and raised.value.exit_code == 5


@pytest.mark.parametrize("body", [b"", *DEEP, ROUTED.replace(b"go", b"\xff")])
@pytest.mark.parametrize("kind", [("Routed", 1), ("RunStarted", 1)])
def test_whoever_meets_bytes_that_do_not_decode_is_sent_to_verify(body: bytes, kind: tuple[str, int]) -> None:
    """W12: no version reads them, of today's shapes or of earlier ones; one reads an event that is unknown to this one."""
    with pytest.raises(Undecodable, match="`counterfoil verify`") as raised:
        decode(body, *kind, run="r", seq=9)
    assert "that knows it" not in raised.value.next_step
    with pytest.raises(Undecodable, match="version that knows it") as raised:
        decode(body, kind[0], 99, run="r", seq=9)
    assert "verify" not in raised.value.next_step
    with pytest.raises(Undecodable, match="`counterfoil verify`"):
        decode(body.decode("latin-1"), *kind, run="r", seq=9)  # type: ignore[arg-type]


@pytest.mark.parametrize("nested", NESTED, ids=["lists", "maps", "open"])
@pytest.mark.parametrize("kind", [("RunStarted", 2), ("Grown", 1)])
def test_a_list_payload_nested_too_deeply_is_no_list(kind: tuple[str, int], nested: bytes,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """W12, law L4: in the shape of today and in one that is read by an upcaster, wherever it is nested."""
    grown = Upcaster(("Grown", 1), ("RunStarted", 2), dict, lists={"graph_list": lambda found: found})
    monkeypatch.setattr(upcasters, "UPCASTERS", Upcasters([*upcasters.UPCASTERS.table, grown], VERSIONS))
    for data in (nested, b'{"nodes":[],"edges":[],"more":' + nested + b"}", b'{"nodes":[' + nested + b"]}"):
        with pytest.raises(msgspec.DecodeError):
            listed(data, kind, "graph_list", Graph)


@given(st.binary(max_size=200))
def test_no_bytes_bring_anything_but_an_event_or_a_refusal(body: bytes) -> None:
    """law L5: whatever stands in a body, reading it ends in one of the two."""
    try:
        event = decode(body, "Routed", 1, run="r", seq=1)
    except Undecodable:
        return
    assert isinstance(event, tuple(KINDS))


@given(st.integers(0, len(ROUTED) - 1), st.integers(1, 255))
def test_a_body_with_one_other_byte_is_another_event_or_none(place: int, flip: int) -> None:
    """law L5: nothing is read as what it was before."""
    body = bytearray(ROUTED)
    body[place] ^= flip
    try:
        event = decode(bytes(body), "Routed", 1, run="r", seq=1)
    except Undecodable:
        return
    assert event != decode(ROUTED, "Routed", 1, run="r", seq=1) or encode(event) != bytes(body)


def test_an_event_is_about_its_token_or_its_group() -> None:
    """L6: the index column `token` is the event's own, or the group of a resolution; others are about none."""
    assert event_token(e.Routed(token="7", node="g", label="go", edge="e")) == "7"
    assert event_token(e.SourceExhausted(rows=1)) is None
    tokens = {kind.__name__: "token" if "token" in kind.__struct_fields__ else "group" for kind in KINDS
              if {"token", "group"} & set(kind.__struct_fields__)}
    assert tokens["TokensCoalesced"] == tokens["CoalesceFailed"] == "group"
    assert tokens["BranchArrived"] == tokens["BranchLost"] == tokens["BranchArrivedLate"] == "token"


def test_an_event_cannot_be_changed() -> None:
    """F1: immutable, once said."""
    event: msgspec.Struct = e.SourceExhausted(rows=1)
    with pytest.raises(AttributeError):
        event.rows = 2  # type: ignore[attr-defined]
