"""The disk that loses power: what was promised is always there, and what was not promised is lost sometimes."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from random import Random

from tests.simulation.disk import Disk
from tests.simulation.journal import Call, Op

SEEDS = range(200)
OLD, NEW = b"o" * 2048, b"n" * 2048


def call(op: Op, path: str = "file", *, data: bytes = b"", other: str = "", inode: int = 1, offset: int = 0, length: int = 0,
         error: int = 0, process: int = 1) -> Call:
    """One record."""
    return Call(op, 1, inode, offset, length or len(data), error, process, path, other, data)


def left(calls: Iterable[Call], files: dict[str, bytes] | None = None) -> list[dict[str, bytes | None]]:
    """What each seed leaves."""
    disk = Disk(files or {}, {name: place for place, name in enumerate(files or {}, start=1)})
    for one in calls:
        disk.play(one)
    return [disk.left(Random(seed)) for seed in SEEDS]


def test_what_was_synced_is_there_and_its_name_too_once_its_directory_was() -> None:
    """Nothing of it is lost, whatever the seed."""
    calls = [call("create"), call("write", data=NEW), call("sync"), call("sync_directory", "", inode=9)]
    assert [one == {"file": NEW} for one in left(calls)] == [True] * len(SEEDS)


def test_a_synced_file_without_a_synced_name_may_be_gone() -> None:
    """A sync of a file is none of its directory."""
    found = left([call("create"), call("write", data=NEW), call("sync")])
    assert {frozenset(one.items()) for one in found} == {frozenset(), frozenset({("file", NEW)})}


def test_what_was_not_synced_is_kept_lost_or_torn_at_sectors() -> None:
    """Each of them happens, and no torn sector is anything but whole old or new bytes."""
    found = [one["file"] or b"" for one in left([call("write", data=NEW)], {"file": OLD})]
    assert {OLD, NEW} < set(found)
    sectors = {one[at:at + 512] for one in found for at in range(0, 2048, 512)}
    assert sectors == {OLD[:512], NEW[:512]}


def test_a_file_that_was_to_grow_may_have_zeros() -> None:
    """The size came, the bytes did not."""
    found = [one["file"] or b"" for one in left([call("write", data=NEW, offset=2048)], {"file": OLD})]
    assert {OLD, OLD + NEW, OLD + bytes(2048)} <= set(found)


def test_a_truncation_that_was_not_synced_may_be_undone() -> None:
    """And one that was is not."""
    cut = call("truncate", length=100)
    assert {one["file"] for one in left([cut], {"file": OLD})} == {OLD, OLD[:100]}
    assert {one["file"] for one in left([cut, call("sync")], {"file": OLD})} == {OLD[:100]}


def test_a_failed_sync_is_made_good_by_no_later_one_but_by_writing_again() -> None:
    """What was to be synced may be lost, whoever syncs later; what is written later and synced is not."""
    failed = [call("write", data=NEW), call("sync", error=errno.EIO), call("write", data=b"end", offset=2048), call("sync")]
    found = [one["file"] or b"" for one in left(failed, {"file": OLD})]
    assert {one[:2048] for one in found} > {OLD, NEW}
    assert {one[2048:] for one in found} == {b"end"}
    assert {one["file"] for one in left([*failed, call("sync", process=2)], {"file": OLD})} > {OLD + b"end", NEW + b"end"}
    again = [*failed, call("write", data=NEW, process=2), call("sync", process=2)]
    assert {one["file"] for one in left(again, {"file": OLD})} == {NEW + b"end"}


def test_a_rename_that_was_not_synced_leaves_the_old_name_or_the_new_one() -> None:
    """Never both, never none: the file is one and the same."""
    found = left([call("rename", other="name")], {"file": OLD})
    assert {frozenset(one) for one in found} == {frozenset({"file"}), frozenset({"name"})}


def test_a_file_in_a_folder_that_is_lost_is_lost() -> None:
    """Both directories have to be synced."""
    made = [call("mkdir", "out", inode=8), call("create", "out/file"), call("sync_directory", "out", inode=8)]
    assert {frozenset(one) for one in left(made)} == {frozenset(), frozenset({"out", "out/file"})}
    assert {frozenset(one) for one in left([*made, call("sync_directory", "", inode=9)])} == {frozenset({"out", "out/file"})}
