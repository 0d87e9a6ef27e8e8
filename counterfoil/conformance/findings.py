"""What the kit has to say about a sink: promises that it breaks, answers about it, and what could not be looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from engine.plugin_api import Delivery

PROMISES: Mapping[str, str] = {
    "delivery": "`delivery` is one of the four classes",
    "goes-through": "what a run asks of a sink is done without an error",
    "prepare-touches-nothing": "`prepare` changes nothing outside, nor where the next write begins",
    "prepare-is-deterministic": "the same rows in the same order are prepared as the same content, by any instance",
    "prepare-accounts": "`ordinals` and `refused` name each row once, `content_sha256` is the content's",
    "refusals-are-stable": "which rows are refused depends on the rows, not on the writes that they are put into",
    "answer": "`write` answers with a `Written` of exact types, each refusal a place within `ordinals`, once",
    "answer-again": "a write that is made again under its key is answered alike",
    "offset": "`offset` is an int of a truncatable sink, where the next write begins; None of any other",
    "size": "a truncatable sink answers with the artifact's size after the write: the offset before it and the content",
    "written-when-it-returns": "what was written is in the target when `write` returns, neither more nor less",
    "key-is-the-write": "a write is known by its key: the same rows under another key are another write",
    "resume-equals-uncut": "whatever a crash leaves, a resumed run ends with the target of one that was not cut",
    "repeats-are-those-made-again": "nothing is missing after a resume, and nothing is there twice that was not made again",
    "repeats-carry-their-key": "each record that is there carries the key of its write",
    "begun-is-kept": "a sink that is opened with `begun` keeps what was confirmed",
    "unconfirmed-is-cut": "a truncatable sink that is opened with `begun` ends at the claim's offset",
    "new-runs-begin": "without `begun` a sink replaces, keeps or refuses what another run has left, whatever its epoch",
    "changed-is-refused": "what is not as it was confirmed makes `open` raise OSError, and is left as it is",
    "failed-open-lets-go": "a sink that could not be opened holds nothing that keeps the next one out",
    "shut-out-changes-nothing": "a writer that is not let in changes nothing, and the one that is goes on",
    "stopping-adds-nothing": "`close(False)` puts no records into the target",
    "closing-again": "`close(False)` after a close is harmless",
    "closed-takes-nothing": "a sink that was closed raises when it is written to",
}
"""Each promise by its name."""

Fence = Literal["lock", "epoch", "none"]
Beginning = Literal["replaces", "keeps", "refuses"]


class Finding(NamedTuple):
    """A promise (a name in `PROMISES`) that was broken: what was expected and found, and the steps that led there."""

    promise: str
    expected: str
    found: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What came of the examination.

    `fence` is what keeps a writer of an older epoch out while it has the sink open: a `lock` that the newer one waits for,
    the `epoch` that the older one's writes are checked against, or `none`: then the sink is unfenced, and its page should
    say so. `fence_late` says whether one that opens it only afterwards is refused too. `beginning` is what a new run does
    with what an earlier one has left. `not_checked` names what could not be looked at, and what it would take.
    """

    delivery: Delivery | None
    fence: Fence
    fence_late: bool
    beginning: Beginning
    findings: tuple[Finding, ...]
    not_checked: tuple[str, ...]


class SinkBroken(AssertionError):
    """A sink breaks promises. `report` has all findings; the text has the first of each promise."""

    def __init__(self, report: Report) -> None:
        super().__init__(text_of(report.findings))
        self.report = report


def text_of(findings: tuple[Finding, ...]) -> str:
    """The findings for people: the first of each promise, and how many more there are."""
    counts = Counter(finding.promise for finding in findings)
    firsts = {finding.promise: finding for finding in reversed(findings)}
    parts = [f"expected a sink that keeps its promises, found {len(counts)} of them broken"]
    for promise in counts:
        first, more = firsts[promise], counts[promise] - 1
        parts += ["", f"{promise}: {PROMISES[promise]}", f"  expected {first.expected}", f"  found {first.found}",
                  "  after:", *(f"    {n}. {step}" for n, step in enumerate(first.steps, start=1))]
        parts += [f"  and {more} more of this promise"] if more else []
    return "\n".join(parts)
