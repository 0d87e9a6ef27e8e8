"""What is looked at after a call: the target, the offset and the answer, beside what the sink promises of them."""

from __future__ import annotations

from counterfoil.conformance.log import Intent
from counterfoil.conformance.story import Story
from counterfoil.conformance.targets import Held, added, counted, same
from engine.plugin_api import Claim, Prepared, Written


def opened(story: Story, claim: Claim, before: Held, offset: int | None) -> None:
    """What was confirmed is there as `before`, and nothing after it."""
    after = story.target.read()
    if claim.begun and not story.bench.truncatable and not same(before, after):
        story.broken("begun-is-kept", f"{_size(before)} as before `open`", f"{_size(after)}, or others")
    end = claim.offset if claim.begun else None
    if end is not None and isinstance(before, bytes) and isinstance(after, bytes) and after[:end] != before[:end]:
        story.broken("begun-is-kept", f"the first {end} bytes as before `open`", f"others ({_size(after)} in all)")
    elif end is not None and (offset != end or (isinstance(after, bytes) and len(after) != end
                                                and not (claim.in_doubt and same(before, after)))):
        less = offset is not None and offset < end
        story.broken("begun-is-kept" if less else "unconfirmed-is-cut", f"an end at {end}",
                     f"offset {offset} and {_size(after)}")
    elif end is None and offset is not None and isinstance(after, bytes) and len(after) != offset:
        story.broken("offset", f"{len(after)}, where the target ends", str(offset))


def refused(story: Story, intent: Intent, prepared: Prepared, written: Written) -> None:
    """The rows that are refused are those that the author says, and again the same ones."""
    places = {one.ordinal for one in prepared.refused} | {prepared.ordinals[one.ordinal] for one in written.refused}
    before = story.log.refusals.setdefault(intent.write.number, frozenset(places))
    if before != places:
        story.broken("answer-again", f"rows {sorted(before)} of write {intent.write.number} refused, as before",
                     f"rows {sorted(places)}")
    elif places != intent.write.refused:
        story.broken("refusals-are-stable", f"rows {sorted(intent.write.refused)} of write {intent.write.number} "
                     "refused, as its author says", f"rows {sorted(places)}")


def appended(story: Story, offset: int, prepared: Prepared, written: Written, now: int | None) -> None:
    """The content is where the artifact ended, and is its end now."""
    end, held = offset + len(prepared.content), story.target.read()
    if written.size_bytes != end:
        story.broken("size", f"size_bytes {end}", str(written.size_bytes))
    if written.content_sha256 != prepared.content_sha256:
        story.broken("answer", f"content_sha256 of what was prepared, {prepared.content_sha256}", written.content_sha256)
    if now != end:
        story.broken("offset", f"{end} after the write", str(now))
    if isinstance(held, bytes) and not held[offset:].startswith(prepared.content):
        story.broken("written-when-it-returns", f"the {len(prepared.content)} bytes that were prepared at {offset}",
                     f"{held[offset : offset + 60]!r} there, and an end at {len(held)}")


def added_to(story: Story, intent: Intent, before: Held) -> None:
    """There are as many records more as rows were taken, each under its key."""
    after = story.target.read()
    taken = len(intent.write.rows) - len(intent.write.refused)
    more = added(before, after)
    story.segments[intent.write.number] = counted(more)
    as_many = len(after) - len(before) == len(more) == taken
    if not as_many and not (isinstance(after, bytes) and (more or not taken)):
        story.broken("written-when-it-returns", f"{taken} records more" if taken else "nothing more",
                     f"{_size(before)} before and {_size(after)} after the write")
    key_of = story.target.key_of
    wrong = [given for one in more if key_of is not None and (given := key_of(one)) != intent.key]
    if wrong:
        story.broken("repeats-carry-their-key", f"key {intent.key} with each record of write {intent.write.number}",
                     f"{wrong[0]!r}")


def _size(held: Held) -> str:
    return f"{len(held)} {'bytes' if isinstance(held, bytes) else 'records'}"
