"""The calls of an effect on record: what went out, what came back, how long it took; whatever the plugin says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import pytest

from engine.attempts import Attempt, Call
from engine.bound import Transform
from engine.masking import Masking
from engine.plugin_api import RowError
from ledger import events as e
from tests.kit.effects import Row, asking, numbered, within
from tests.kit.pipelines import Ran, Trial, trial
from tests.kit.ports import SimulatedTime
from tests.kit.shuffled import ShuffledWorkers

SECRET = "hunter2-and-more"
Said = Callable[[Attempt], object]


def saying(*attempts: Said) -> Transform:
    """An effect that says this of its calls, attempt by attempt, and answers with its row."""

    def ask(row: Row, attempt: Attempt) -> Row:
        attempts[attempt.number - 1](attempt)
        return row

    return ask


def asked(*attempts: Said, time: SimulatedTime | None = None, seconds: float = 60) -> Ran:
    """A run of one row through it."""
    made = trial(asking(attempts=len(attempts)), numbered(1), {"ask": saying(*attempts)}, time=time)
    return within(made, seconds).go()


def calls(ran: Ran) -> list[tuple[int, str, str, Any, Any, int]]:
    """Each call: its number, kind, status, what was sent, what came back (None where nothing did), milliseconds."""
    return [(one.call, one.kind, one.status, ran.payload(one.request),
             ran.payload(one.response) if one.response is not None else None, one.latency_us // 1000)
            for one in ran.of(e.CallRecorded)]


# --- what is recorded ----------------------------------------------------------------------------------------------


def test_a_call_is_recorded_with_both_payloads_its_status_and_its_latency() -> None:
    """law L4: between the intent and the result of its attempt."""
    time = SimulatedTime()

    def say(attempt: Attempt) -> None:
        time.advance_ms(5)
        with attempt.calling("http", {"url": "/x"}) as call:
            time.advance_ms(120)
            call.answered("200", {"body": [1, None]})
            time.advance_ms(50)

    ran = asked(say, time=time)
    assert calls(ran) == [(0, "http", "200", {"url": "/x"}, {"body": [1, None]}, 120)]
    assert ran.told("ask") == ["StepStarted 0 ask #1", "CallRecorded 0 ask #1 call 0 http 200", "StepCompleted 0 ask #1"]
    assert ran.one(e.StepCompleted).duration_us == 175_000


def test_calls_stand_in_the_order_in_which_they_were_begun() -> None:
    """law T10: numbered from 0, whichever was answered first."""

    def say(attempt: Attempt) -> None:
        one, two, three = (attempt.calling(kind, kind) for kind in ("one", "two", "three"))
        three.answered("3")
        one.answered("1")
        two.answered("2")

    assert [call[:4] for call in calls(asked(say))] == [(0, "one", "1", "one"), (1, "two", "2", "two"),
                                                        (2, "three", "3", "three")]  # fmt: skip


def test_the_calls_of_each_attempt_are_its_own() -> None:
    """law T10: numbers begin anew; what the failed attempt had sent stays on record."""

    def fails(attempt: Attempt) -> None:
        attempt.calling("http", "first").answered("503")
        with attempt.calling("http", "second"):
            raise ConnectionResetError("reset")

    def succeeds(attempt: Attempt) -> None:
        attempt.calling("http", "third").answered("200")

    ran = asked(fails, succeeds)
    assert [line for line in ran.told("ask") if "ask" in line] == [
        "StepStarted 0 ask #1", "CallRecorded 0 ask #1 call 0 http 503",
        "CallRecorded 0 ask #1 call 1 http ConnectionResetError", "StepFailed 0 ask #1 retryable retry",
        "StepStarted 0 ask #2", "CallRecorded 0 ask #2 call 0 http 200", "StepCompleted 0 ask #2",
    ]  # fmt: skip


def test_only_the_first_answer_of_a_call_counts() -> None:
    """What came back came back once; an exception after it changes nothing of it."""

    def say(attempt: Attempt) -> None:
        with attempt.calling("http", None) as call:
            call.answered("200", "first")
            call.answered("500", "second")
            raise RowError("no")

    assert calls(asked(say)) == [(0, "http", "200", None, "first", 0)]


def test_an_answer_of_nothing_is_an_answer() -> None:
    """A `null` that was heard is a payload; where nothing was heard there is none."""

    def say(attempt: Attempt) -> None:
        attempt.calling("http", None).answered("204", None)
        attempt.calling("http", None)

    heard, unheard = asked(say).of(e.CallRecorded)
    assert (heard.response is None, unheard.response is None) == (False, True)


def test_no_call_is_no_event() -> None:
    """An effect need not say anything."""
    assert asked(lambda attempt: None).of(e.CallRecorded) == []


# --- calls without an answer ---------------------------------------------------------------------------------------


RAISED: Mapping[str, tuple[Callable[[], BaseException], str]] = {
    "TimeoutError": (lambda: TimeoutError("slow"), "TimeoutError"),
    "RowError": (lambda: RowError("no"), "RowError"),
    "SystemExit": (lambda: SystemExit(3), "SystemExit"),
    "no name for a table": (type("Ärger", (Exception,), {}), "bad_status"),
    "a long name": (type("X" * 65, (Exception,), {}), "bad_status"),
}


@pytest.mark.parametrize("what", RAISED)
def test_a_call_that_raised_stands_under_the_name_of_what_was_raised(what: str) -> None:
    """What was sent is on record also when the attempt then fails."""
    error, status = RAISED[what]

    def say(attempt: Attempt) -> None:
        with attempt.calling("http", "sent"):
            raise error()

    assert calls(asked(say))[0][:5] == (0, "http", status, "sent", None)


def test_a_call_that_nobody_answered_is_unanswered() -> None:
    """Left open, or left by its `with` without a word: until the end of the attempt, or of the `with`."""
    time = SimulatedTime()

    def say(attempt: Attempt) -> None:
        attempt.calling("left", 1)
        with attempt.calling("closed", 2):
            time.advance_ms(30)
        time.advance_ms(70)

    assert calls(asked(say, time=time)) == [(0, "left", "unanswered", 1, None, 100),
                                            (1, "closed", "unanswered", 2, None, 30)]  # fmt: skip


# --- after the deadline --------------------------------------------------------------------------------------------


def test_what_a_hung_effect_had_sent_is_on_record_unanswered() -> None:
    """The attempt ends at its deadline with the calls begun until then."""
    time = SimulatedTime()
    ask = saying(lambda attempt: attempt.calling("http", "sent"))
    made = within(trial(asking(), numbered(1), {"ask": ask}, time=time), 5)
    made.workers = ShuffledWorkers(0, time, lambda ticket: "silent")
    ran = made.go()
    assert calls(ran) == [(0, "http", "unanswered", "sent", None, 5000)]
    assert ran.told("ask")[-2:] == ["StepFailed 0 ask #1 retries_exhausted", "Diverted 0 error ask > errors by "
                                    "ask:__error_ask__ retries_exhausted"]


def test_a_hung_effect_that_begins_to_speak_when_it_was_given_up_is_not_heard() -> None:
    """law T10: neither its call nor its row; what it said stands nowhere, and the next attempt is the one that counts."""
    time = SimulatedTime()
    numbers: list[int] = []

    def say(attempt: Attempt) -> None:
        numbers.append(attempt.number)
        attempt.calling("http", attempt.number).answered("200")

    made = within(trial(asking(attempts=2), numbered(1), {"ask": saying(say, say)}, time=time), 5)
    made.workers = ShuffledWorkers(0, time, lambda ticket: "hangs" if ticket == 1 else "answers")
    ran = made.go()
    assert sorted(numbers) == [1, 2]
    assert calls(ran) == [(0, "http", "200", 2, None, 0)]
    assert ran.outcomes == {"0": "completed"}


def test_what_a_plugin_says_after_its_attempt_ended_is_not_heard() -> None:
    """W8, law T10: a late answer changes no record, a late call is refused, in this attempt and for every later one."""
    kept: list[tuple[Attempt, Call]] = []
    late: list[str] = []

    def first(attempt: Attempt) -> None:
        kept.append((attempt, attempt.calling("http", "in time")))
        raise OSError("once more")

    def second(attempt: Attempt) -> None:
        stale, call = kept[0]
        call.answered("200", "too late")
        try:
            stale.calling("http", "too late")
        except TimeoutError as error:
            late.append(str(error))
        attempt.calling("http", "in time again").answered("200")

    ran = asked(first, second)
    assert late == ["expected a call before the deadline, found one after it"]
    assert [call[:5] for call in calls(ran)] == [(0, "http", "unanswered", "in time", None),
                                                 (0, "http", "200", "in time again", None)]  # fmt: skip


# --- nonsense ------------------------------------------------------------------------------------------------------


class Opaque:
    """Nothing that JSON knows, and nothing that says what it is."""

    def __repr__(self) -> str:
        raise ValueError("no words")


class Unlistable(list[object]):
    """A list that cannot be walked through."""

    def __iter__(self) -> Any:
        raise ValueError("no items")


def endless() -> list[object]:
    """A list that holds itself."""
    held: list[object] = []
    held.append(held)
    return held


NONSENSE: Mapping[str, tuple[object, str]] = {
    "an object": (Opaque(), "not kept: expected a JSON value, found Opaque"),
    "bytes": (b"x", "not kept: expected a JSON value, found bytes"),
    "a tuple": ((1, 2), "not kept: expected a JSON value, found tuple"),
    "not finite": ({"n": float("nan")}, "not kept: expected a finite number, found nan"),
    "a long int": (2**64, "not kept: expected an int of 64 bits, found a longer one"),
    "a number as name": ({1: 2}, "not kept: expected field names that are text, found int"),
    "a surrogate": ("\ud800", "not kept: expected text, found a lone surrogate"),
    "itself": (endless(), "not kept: expected at most 32 levels, found more"),
    "unlistable": (Unlistable([1]), "not kept: expected a value that can be looked at, found ValueError"),
    "too long": ("x" * 1001, "not kept: expected at most 1000 bytes, found 1003"),
    "a type": (dict, "not kept: expected a JSON value, found type"),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_what_is_no_json_is_named_and_breaks_nothing(what: str) -> None:
    """G12: requests and responses are the plugin's; of nonsense the record says what it was, and the row goes on."""
    value, text = NONSENSE[what]

    def say(attempt: Attempt) -> None:
        attempt.calling("http", value).answered("200", value)

    made = trial(asking(), numbered(2), {"ask": saying(say)})
    made.bound = replace(made.bound, row_bytes_max=1000)
    ran = made.go()
    assert [call[3:5] for call in calls(ran)] == [(text, text)] * 2
    assert ran.receipt.outcomes == {"completed": 2}


@pytest.mark.parametrize("given", [None, 5, b"http", "", "two words", "x" * 65, "ünï", "9lives", object(), ["http"], "a\n"])
def test_a_kind_that_is_no_short_word_is_a_bad_code(given: Any) -> None:
    """law L5: bodies hold codes, never what a plugin made up."""
    assert calls(asked(lambda attempt: attempt.calling(given, None)))[0][1:3] == ("bad_code", "unanswered")


class Word(str):
    """A text of a class of its own."""


def test_a_kind_and_a_code_of_a_class_of_their_own_are_the_texts_they_are() -> None:
    """law L5: bodies hold plain texts."""

    def say(attempt: Attempt) -> None:
        attempt.calling(Word("http"), None).answered(Word("ok"))
        raise RowError("no", Word("told_to"))

    ran = asked(say)
    assert calls(ran)[0][1:3] == ("http", "ok")
    assert ran.one(e.StepFailed).code == "told_to"


@pytest.mark.parametrize(("given", "status"), [
    (200, "200"), (HTTPStatus.NOT_FOUND, "404"), ("2xx", "2xx"), ("grpc:OK", "grpc:OK"), (-1, "bad_status"),
    (None, "bad_status"), (200.0, "bad_status"), ("", "bad_status"), ("200 OK", "bad_status"), ("x" * 65, "bad_status"),
    ("200\n", "bad_status"), (b"200", "bad_status"), (object(), "bad_status"), ("٢٠٠", "bad_status"),
])  # fmt: skip
def test_a_status_is_a_short_word_or_a_bad_status(given: Any, status: str) -> None:
    """law L5: numbers and words that a table can hold; nothing else breaks the run."""
    assert calls(asked(lambda attempt: attempt.calling("http", None).answered(given)))[0][2] == status


def test_a_status_that_cannot_be_said_fails_its_row_alone() -> None:
    """G12: what raises when it is looked at raises in the plugin's attempt."""
    ran = asked(lambda attempt: attempt.calling("http", None).answered(10**5000))  # type: ignore[arg-type]
    assert ran.outcomes == {"0": "routed"}
    assert ran.one(e.StepFailed).code == "plugin_raised"


# --- secrets -------------------------------------------------------------------------------------------------------


def keeping_secret(step: Transform, *secrets: str) -> Trial:
    """A trial whose pipeline file took these from the environment."""
    made = trial(asking(), numbered(1), {"ask": step})
    made.bound = replace(made.bound, masking=Masking(secrets or [SECRET]))
    return made


def test_secrets_of_the_pipeline_file_are_masked_in_what_calls_say() -> None:
    """What came from the environment is in no payload of a call: not in a text, not in a name, however deep."""

    def say(attempt: Attempt) -> None:
        request = {"url": f"https://x/?key={SECRET}", SECRET: [{"deep": SECRET}], "other": 1}
        attempt.calling("http", request).answered("200", [f"Bearer {SECRET}{SECRET}"])

    ran = keeping_secret(saying(say)).go()
    assert calls(ran)[0][3:5] == ({"url": "https://x/?key=***", "***": [{"deep": "***"}], "other": 1}, ["Bearer ******"])
    assert not holding(ran, SECRET)


@pytest.mark.parametrize("error", [ValueError(f"no: {SECRET}"), RowError(f"no: {SECRET}"), OSError(f"no: {SECRET}"),
                                   ValueError({SECRET: [SECRET]}), SystemExit(SECRET)])  # fmt: skip
def test_secrets_are_masked_in_the_texts_of_errors(error: BaseException) -> None:
    """E1: whatever raises with it: the text of the failure, which is also the reason of the divert."""

    def ask(row: Row, attempt: Attempt) -> object:
        raise error

    ran = keeping_secret(ask).go()
    assert "***" in ran.payload(ran.one(e.StepFailed).error)
    assert not holding(ran, SECRET)


def test_a_secret_within_another_leaves_no_rest_of_it() -> None:
    """The longest is masked first; what is too short to be told from other text is left alone."""
    ask = saying(lambda attempt: attempt.calling("http", "abcdefgh abcd abc"))
    ran = keeping_secret(ask, "abcd", "abcdefgh", "abc").go()
    assert calls(ran)[0][3] == "*** *** abc"


def holding(ran: Ran, text: str) -> list[str]:
    """The payloads and bodies of the run that hold this text."""
    payloads = list(ran.store.payloads_between(ran.run, 1, 1000))
    bodies = list(ran.store.read(ran.run))
    assert payloads
    assert bodies
    return ([f"payload {one.n}" for one in payloads if text.encode() in (one.bytes or b"")]
            + [f"seq {one.seq}" for one in bodies if text.encode() in one.body])
