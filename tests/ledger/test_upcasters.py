"""Upcasters at work: what they make of an earlier body, what they may not do, and what is held of such a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger import events as e
from ledger import upcasters
from ledger.codec import HEADER, VERSIONS, Undecodable, decode, encode
from ledger.replay import replay
from ledger.store import Store, Stored
from ledger.upcasters import UPCASTERS, Fields, Kind, Upcaster, Upcasters
from ledger.verify import integrity
from tests.kit import tamper
from tests.kit.log import RUN
from tests.ledger import lawful_groups
from tests.museum import exhibits

KIND: Kind = ("Going", 1)
BODY = b'{"type":"Going","run":"r","seq":9,"epoch":1,"v":1,"at":5,"active_ms":0,"token":"0","node":"g","way":"go"}'
ROUTED = e.Routed(run="r", seq=9, epoch=1, v=1, at=5, active_ms=0, token="0", node="g", label="go", edge="g:go")


def going(fields: Fields) -> Fields:
    """What says today that a token went."""
    way = fields.pop("way")
    return {**fields, "label": way, "edge": f"{fields['node']}:{way}"}


def in_force(monkeypatch: pytest.MonkeyPatch, fields: Callable[[Fields], Fields], kind: Kind = KIND,
             to: Kind = ("Routed", 1), token: str | None = None) -> None:
    """Put one more upcaster in force."""
    more = Upcaster(kind, to, fields, token=token)
    monkeypatch.setattr(upcasters, "UPCASTERS", Upcasters([*UPCASTERS.table, more], VERSIONS))


def test_an_earlier_event_is_read_in_todays_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """W12, law L5: its header as it stood, its type and version today's; unreadable without the upcaster."""
    with pytest.raises(Undecodable, match="Going version 1 \\(no such type is known\\)"):
        decode(BODY, *KIND, run="r", seq=9)
    in_force(monkeypatch, going)
    found = decode(BODY, *KIND, run="r", seq=9)
    assert found == ROUTED and encode(found) != BODY


FAULTY: Mapping[str, Callable[[Fields], Fields]] = {
    "raises": lambda fields: fields["nothing"],
    "divides": lambda fields: {"label": 1 // 0},
    "gives nothing": lambda fields: msgspec.json.decode(b"null"),
    "leaves a field": lambda fields: {**going(dict(fields)), "way": "go"},
    "misses a field": lambda fields: {"token": "0"},
    "gives another type": lambda fields: {**going(dict(fields)), "token": 0},
    "makes a header": lambda fields: {**going(dict(fields)), "at": 7},
    "makes a type": lambda fields: {**going(dict(fields)), "type": "Routed"},
}


@pytest.mark.parametrize("name", FAULTY)
def test_what_an_upcaster_makes_is_held_to_todays_shape(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """W12, law L5: a body that its upcaster does not understand is refused by name, and never half read."""
    in_force(monkeypatch, FAULTY[name])
    with pytest.raises(Undecodable) as raised:
        decode(BODY, *KIND, run="r", seq=9)
    assert raised.value.found.startswith("a Going version 1 that does not decode: ") and "\n" not in str(raised.value)


@pytest.mark.parametrize("body", [
    b"", b"{", b"null", b"[]", b"{}", b"[" * 100_000, b'{"a":' * 100_000, BODY + b"x", BODY.replace(b"go", b"\xff"),
    BODY.replace(b"go", b"\\ud800"), BODY.replace(b'"seq":9', b'"seq":"9"'), BODY.replace(b'"v":1', b'"v":true'),
    BODY.replace(b'"v":1', b'"v":1.0'), BODY.replace(b'"v":1,', b""), BODY.replace(b'"run"', b'"ran"'),
], ids=range(15))  # fmt: skip
def test_no_bytes_of_an_earlier_event_bring_anything_but_a_refusal(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """W12, law L5: bad bytes of a shape that is no more are as bad as others."""
    in_force(monkeypatch, going)
    with pytest.raises(Undecodable):
        decode(body, *KIND, run="r", seq=9)
    with pytest.raises(Undecodable, match="stored as str"):
        decode(BODY.decode(), *KIND, run="r", seq=9)  # type: ignore[arg-type]


@given(st.binary(max_size=60), st.integers(0, len(BODY)), st.integers(0, 20))
def test_whatever_stands_in_an_earlier_body_reading_it_ends_in_an_event_or_a_refusal(new: bytes, at: int, cut: int) -> None:
    """W12, law L5: any bytes in the midst of it."""
    with pytest.MonkeyPatch.context() as patch:
        in_force(patch, going)
        try:
            assert isinstance(decode(BODY[:at] + new + BODY[at + cut:], *KIND, run="r", seq=9), e.Event)
        except Undecodable as unreadable:
            assert unreadable.seq == 9


def test_no_upcaster_of_production_changes_what_it_is_given() -> None:
    """W12: each is pure: the same again, of fields that stay as they were."""
    for one in UPCASTERS.table:
        for body in exhibits.bodies(*one.of):
            fields = {name: value for name, value in msgspec.json.decode(body).items() if name not in HEADER}
            kept = deepcopy(fields)
            assert one.fields(fields) == one.fields(fields) and fields == kept


# --- in a log --------------------------------------------------------------------------------------------------------


def log_of(monkeypatch: pytest.MonkeyPatch) -> tuple[Store, int]:
    """A lawful log one of whose forks was told in an earlier shape; its seq."""
    in_force(monkeypatch, lambda fields: {**_without(fields, "who", "into"), "token": fields["who"],
                                         "branches": fields["into"].split("/")},
             ("Forked", 1), ("TokenForked", 1), token="who")
    store = lawful_groups.all_arrived().store()
    seq = next(one.seq for one in store.read(RUN) if one.type == "TokenForked")
    edit(store, seq, as_forked)
    return store, seq


def _without(fields: Fields, *names: str) -> Fields:
    return {name: value for name, value in fields.items() if name not in names}


def as_forked(one: Stored) -> Stored:
    """A fork as it was told once."""
    raw = msgspec.json.decode(one.body)
    fields = {**_without(raw, *HEADER, "token", "branches"), "who": raw["token"], "into": "/".join(raw["branches"])}
    header = {name: raw[name] for name in HEADER if name in raw} | {"type": "Forked", "v": 1}
    return one._replace(type="Forked", v=1, body=msgspec.json.encode({**header, **fields}))


def edit(store: Store, seq: int, how: Callable[[Stored], Stored]) -> None:
    """Change one stored event, and make the tree and the seal agree with it."""
    def every(events: list[Stored]) -> Iterator[Stored]:
        yield from (how(one) if one.seq == seq else one for one in events)

    tamper.edit_events(store, RUN, every)
    tamper.rehash(store, RUN)


def faults(store: Store) -> set[str]:
    """The kinds of what `verify` finds, the seal's aside: it states the bytes of before."""
    return {fault.kind for fault in integrity(store, RUN)} - {"seal", "registry"}


def test_an_earlier_event_with_its_own_columns_is_lawful(monkeypatch: pytest.MonkeyPatch) -> None:
    """W12, law L6: the columns are what the stored body says, in its own words; `verify` finds nothing at it."""
    store, _ = log_of(monkeypatch)
    assert replay(store, RUN).verdict.lawful and faults(store) == set()


OTHER: Mapping[str, Callable[[Stored], Stored]] = {
    "token": lambda one: one._replace(token="7"), "no token": lambda one: one._replace(token=None),
    "row": lambda one: one._replace(row_index=7), "no row": lambda one: one._replace(row_index=None),
    "at": lambda one: one._replace(at=1),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_columns_that_are_not_what_an_earlier_body_says_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """W12, law L6: at its seq, in replay and in verify."""
    store, seq = log_of(monkeypatch)
    edit(store, seq, OTHER[name])
    (finding,) = replay(store, RUN).verdict.findings
    assert (finding.law, finding.seq) == ("L6", seq)
    assert faults(store) == {"column"}


@pytest.mark.parametrize(("kind", "law"), [
    (("TokenForked", 1), "L5"), (("Forked", 1), "L6"), (("RunStarted", 1), "L6"), (("RunStarted", 2), "L5"),
])  # fmt: skip
def test_a_type_or_version_that_the_body_does_not_say_is_found(kind: Kind, law: str,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    """W12, law L6, law L5: today's event under an earlier kind, an earlier one under today's, one of another type."""
    store, seq = log_of(monkeypatch)
    if kind == ("Forked", 1):
        store = lawful_groups.all_arrived().store()
    edit(store, seq, lambda one: one._replace(type=kind[0], v=kind[1]))
    (finding,) = replay(store, RUN).verdict.findings
    assert (finding.law, finding.seq) == (law, seq)
    assert faults(store) & {"column", "body"}


def test_a_body_is_read_as_what_it_says_that_it_is() -> None:
    """W12, law L6: whatever the columns say; a run of today keeps its program under the version of before."""
    (started, *_) = lawful_groups.all_arrived().stamped()
    assert isinstance(started, e.RunStarted) and started.program != ""
    assert decode(encode(started), "RunStarted", 1, run=RUN, seq=1) == started
    for other in (3, 0, True, 2.0):
        body = msgspec.json.encode(msgspec.json.decode(encode(started)) | {"v": other})
        with pytest.raises(Undecodable, match="RunStarted version 1 that does not decode"):
            decode(body, "RunStarted", 1, run=RUN, seq=1)


def _padded(body: bytes) -> bytes:
    return body.replace(b'":', b'": ', 1)


def _said_twice(body: bytes) -> bytes:
    return body.replace(b'"type"', b'"into":"x","type"', 1)


def _escaped(body: bytes) -> bytes:
    return body.replace(b'"fork', b'"\\u0066ork', 1)


def _header_last(body: bytes) -> bytes:
    raw = msgspec.json.decode(body)
    return msgspec.json.encode({**_without(raw, "seq"), "seq": raw["seq"]})


def _type_second(body: bytes) -> bytes:
    raw = msgspec.json.decode(body)
    return msgspec.json.encode({"run": raw["run"], **_without(raw, "run")})


@pytest.mark.parametrize("way", [_padded, _said_twice, _escaped, _header_last, _type_second])
def test_an_earlier_body_that_is_not_in_our_form_is_found(way: Callable[[bytes], bytes],
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """W12, law L5: compact, no name twice, nothing escaped that need not be, the header first and in its order."""
    store, seq = log_of(monkeypatch)
    before = next(one.body for one in store.read(RUN) if one.seq == seq)
    edit(store, seq, lambda one: one._replace(body=way(one.body)))
    assert way(before) != before and msgspec.json.decode(way(before)) == msgspec.json.decode(before)
    assert faults(store) == {"body"} and replay(store, RUN).verdict.lawful


def test_a_list_in_a_payload_is_read_by_the_same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """W12, law L4, law L5: what the long list of an earlier event holds is upcast too; else it is no list of that event."""
    log = lawful_groups.all_arrived()
    place, event = next((n, one) for n, one in enumerate(log.said) if isinstance(one, e.TokensCoalesced))
    assert event.facts is not None
    facts = msgspec.to_builtins(event.facts)
    facts["waited"] = facts.pop("wait_duration_ms")
    log.said[place] = replace(event, facts=None, facts_list=log.keep(facts))
    store = log.store()
    stream = tamper.memory(store)._streams[RUN]
    stream.payloads[len(log.kept)] = stream.payloads[len(log.kept)]._replace(permanent=True)
    edit(store, place + 1, lambda one: one._replace(v=0, body=one.body.replace(b'"v":1', b'"v":0')))

    def waited(found: Fields) -> Fields:
        return {**_without(found, "waited"), "wait_duration_ms": found["waited"]}

    for lists, law in (({"facts_list": waited}, None), ({}, "L4"), ({"facts_list": lambda found: found["x"]}, "L4")):
        more = Upcaster(("TokensCoalesced", 0), ("TokensCoalesced", 1), dict, lists=lists)
        monkeypatch.setattr(upcasters, "UPCASTERS", Upcasters([*UPCASTERS.table, more], VERSIONS))
        verdict = replay(store, RUN).verdict
        assert [(one.law, one.seq) for one in verdict.findings] == ([(law, place + 1)] if law else [])
        assert faults(store) == ({"payload"} if law else set())

