"""The file behind a sink: what a crash, another writer or a broken disk finds, and what it does about them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.plugin_api import Claim
from engine.schema import RowSchema
from engine.sinks.csv_file import CsvSink
from engine.sinks.files import ArtifactFile, FileMode
from engine.sinks.json_file import JsonSink
from tests.engine.writing import Make, Rows, put, whole

KINDS: Sequence[Make] = (
    lambda p: CsvSink(path=p),
    lambda p: CsvSink(path=p, schema=RowSchema.parse("fixed", ["a: int"])),
    lambda p: CsvSink(path=p, encoding="utf-16"),
    lambda p: JsonSink(path=p),
    lambda p: JsonSink(path=p, indent=1),
    lambda p: JsonSink(path=p, format="jsonl"),
)
WRITES: Sequence[Rows] = ([{"a": 1}], [{"a": 2}, {"a": 3}], [{"a": 4}])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is not there yet, in directories that are not either."""
    return tmp_path / "made" / "for" / "out"


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("confirmed", range(len(WRITES) + 1))
@pytest.mark.parametrize("left_behind", [b"", b"half a ro", b"x" * 5000])
def test_a_resumed_run_gives_the_bytes_of_an_uncut_one(
    path: Path, make: Make, confirmed: int, left_behind: bytes
) -> None:
    """W2: cut at any write, with any rubbish after what was confirmed, by a new sink that knows the offset alone."""
    whole(make(str(path)), *WRITES)
    uncut = path.read_bytes()
    first = make(str(path))
    first.open(Claim())
    written = put(first, *WRITES[:confirmed])
    first.close(False)
    with path.open("ab") as torn:
        torn.write(left_behind)
    second = make(str(path))
    second.open(Claim(begun=True, offset=written[-1].size_bytes if written else 0))
    put(second, *WRITES[confirmed:])
    second.close(True)
    assert path.read_bytes() == uncut


@pytest.mark.parametrize("make", KINDS)
def test_a_finished_file_can_be_resumed_too(path: Path, make: Make) -> None:
    """A crash between the end of the artifact and the seal: the end is cut off and written again."""
    sink = make(str(path))
    sink.open(Claim())
    size = put(sink, *WRITES)[-1].size_bytes
    sink.close(True)
    uncut = path.read_bytes()
    again = make(str(path))
    again.open(Claim(begun=True, offset=size))
    again.close(True)
    assert path.read_bytes() == uncut


@pytest.mark.parametrize("make", KINDS)
def test_a_new_run_replaces_the_file(path: Path, make: Make) -> None:
    """Mode `write`, for a run that is not resumed; one sink object serves several runs."""
    sink = make(str(path))
    whole(sink, *WRITES)
    uncut = path.read_bytes()
    whole(sink, *WRITES)
    assert path.read_bytes() == uncut


@pytest.mark.parametrize("make", KINDS)
def test_a_second_writer_is_kept_out_until_the_first_lets_go(path: Path, make: Make) -> None:
    """W5: the lock is on the file itself, and is taken before the file is touched."""
    first, second = make(str(path)), make(str(path))
    first.open(Claim())
    put(first, [{"a": 1}])
    before = path.read_bytes()
    with pytest.raises(OSError, match="expected to be the only writer") as raised:
        second.open(Claim())
    assert raised.value.errno == errno.EBUSY
    assert raised.value.filename == str(path)
    assert path.read_bytes() == before
    first.close(False)
    second.open(Claim())
    second.close(False)


def test_the_lock_is_one_that_other_processes_see(path: Path) -> None:
    """W5: an flock, exclusive, on the artifact."""
    file = ArtifactFile(str(path), "write")
    file.open(Claim())
    with path.open("rb") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        file.close()
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)


@given(st.lists(st.binary(max_size=20), max_size=5), st.data())
def test_size_and_hash_are_those_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], data: st.DataObject
) -> None:
    """After each append, after a resume at any offset, and where there was a file before."""
    target = tmp_path_factory.getbasetemp() / "artifact"
    target.write_bytes(data.draw(st.binary(max_size=20)))
    mode: FileMode = data.draw(st.sampled_from(("write", "append")))
    file = ArtifactFile(str(target), mode)
    file.open(Claim())
    for content in contents:
        file.append(content)
        assert (file.size, file.sha256) == (target.stat().st_size, sha256(target.read_bytes()).hexdigest())
    file.close()
    before = target.read_bytes()
    offset = data.draw(st.integers(0, len(before)))
    file.open(Claim(begun=True, offset=offset, in_doubt=True))
    assert (file.size, file.sha256) == (offset, sha256(before[:offset]).hexdigest())
    if mode == "append":
        file.append(before[offset:])
    assert target.read_bytes() == (before[:offset] if mode == "write" else before)
    file.close()


@pytest.mark.parametrize(("tail", "in_doubt", "refused"), [
    (b"", False, None), (b"", True, None), (b"mi", True, None), (b"mine\n", True, None), (b"m\0\0e\n", True, None),
    (b"\0\0\0\0\0", True, None), (b"mi", False, "open"), (b"theirs\n", False, "open"), (b"theirs\n", True, "append"),
    (b"mine\ntheirs\n", True, "finish"), (b"mitheirs\n", True, "append"),
])  # fmt: skip
def test_what_others_appended_to_a_shared_file_is_never_cut(tail: bytes, in_doubt: bool, refused: str | None, path: Path
                                                            ) -> None:
    """law R4: past the confirmed bytes only what a write in doubt can have left, whole or torn, is written over."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"old\n" + tail)
    file = ArtifactFile(str(path), "append")
    steps = {"open": lambda: file.open(Claim(begun=True, offset=4, in_doubt=in_doubt)),
             "append": lambda: file.append(b"mine\n" if in_doubt else b""), "finish": file.finish}  # fmt: skip
    done: list[str] = []
    with suppress(FileExistsError):
        for name, step in steps.items():
            step()
            done.append(name)
    file.close()
    names = list(steps)
    assert done == (names if refused is None else names[: names.index(refused)])
    assert path.read_bytes() == b"old\n" + (tail if refused else b"mine\n" if in_doubt else b"")


def test_a_file_that_lost_what_was_confirmed_is_not_written_to(path: Path) -> None:
    """Resuming would leave a hole."""
    whole(CsvSink(path=str(path)), [{"a": 1}])
    with pytest.raises(OSError, match="expected at least the 400 bytes that were confirmed, found 4"):
        CsvSink(path=str(path)).open(Claim(begun=True, offset=400))
    assert path.read_bytes() == b"a\n1\n"


def test_a_write_returns_after_file_and_directory_are_on_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W3: every write is synced after its last byte; so is each directory that got a new entry, before any write."""
    synced: list[tuple[str, int]] = []
    sync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor).st_size))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    sink = JsonSink(path=str(path), format="jsonl")
    sink.open(Claim())
    directories = {str(path.parent), str(path.parent.parent), str(path.parent.parent.parent)}
    assert directories <= {name for name, _ in synced}
    for written in put(sink, *WRITES):
        assert (str(path), written.size_bytes) in synced
    sink.close(True)


def test_directories_that_a_dead_process_made_are_brought_to_disk_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it had still synced them nobody knows; one above that may not be read is passed over."""
    path.parent.mkdir(parents=True)
    synced: list[str] = []
    unreadable = path.parent.parent.parent.parent
    opening = os.open

    def guarded(name: str | Path, *given: int) -> int:
        if Path(name) == unreadable:
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
        return opening(name, *given)

    monkeypatch.setattr(os, "open", guarded)
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    sink = JsonSink(path=str(path), format="jsonl")
    sink.open(Claim())
    sink.close(True)
    above = [str(one) for one in path.parents if one != unreadable]
    assert synced[-len(above):] == above
    synced.clear()
    monkeypatch.chdir(path.parent.parent)
    sink.open(Claim())
    put(sink, *WRITES)
    sink.close(True)
    assert synced[1:3] == [str(path.parent), str(path.parent.parent)]
    assert str(path.parent.parent.parent) not in synced


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EACCES, errno.EIO])
def test_a_directory_far_above_that_cannot_be_synced_is_let_be(number: int, path: Path, monkeypatch: pytest.MonkeyPatch
                                                                  ) -> None:
    """There are file systems without it; of the file's own directory it is an error of the sink."""
    path.parent.mkdir(parents=True)
    sync = os.fsync
    broken = path.parent.parent.parent

    def failing(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(broken):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    whole(JsonSink(path=str(path), format="jsonl"), *WRITES)
    broken = path.parent
    with pytest.raises(OSError, match=os.strerror(number)):
        JsonSink(path=str(path), format="jsonl").open(Claim())


def test_behind_a_link_the_real_directory_is_on_disk(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W3: the new entry is there, not beside the link."""
    target = tmp_path / "elsewhere" / "rows"
    target.parent.mkdir()
    path.parent.mkdir(parents=True)
    path.symlink_to(target)
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    sink = JsonSink(path=str(path), format="jsonl")
    sink.open(Claim())
    sink.close(True)
    assert str(target.parent) in synced
    assert target.exists()


def test_bytes_that_the_system_takes_in_pieces_are_all_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short write is no error."""
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: write(descriptor, bytes(data[:3]), at))
    whole(JsonSink(path=str(path)), *WRITES)
    assert json.loads(path.read_bytes()) == [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}]


@pytest.mark.parametrize(("call", "number"), [("pwrite", errno.ENOSPC), ("fsync", errno.EIO)])
@pytest.mark.parametrize("make", KINDS)
def test_after_an_error_of_the_disk_the_handle_is_not_used_again(
    path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """W4: the error is typed; the end of the artifact is not claimed; once mended, a resume gives the uncut bytes."""
    whole(make(str(path)), *WRITES)
    uncut = path.read_bytes()
    sink = make(str(path))
    sink.open(Claim())
    size = put(sink, WRITES[0])[-1].size_bytes

    def failing(*_: object) -> None:
        raise OSError(number, "no")

    with monkeypatch.context() as broken:
        broken.setattr(os, call, failing)
        with pytest.raises(OSError) as raised:
            put(sink, WRITES[1])
    assert raised.value.errno == number
    with pytest.raises(OSError, match="failed before"):
        sink.write(sink.prepare([{"a": 9}]), "key")
    assert sink.offset() == size
    sink.close(False)
    again = make(str(path))
    again.open(Claim(begun=True, offset=size))
    put(again, *WRITES[1:])
    again.close(True)
    assert path.read_bytes() == uncut


def test_a_target_that_is_no_file_is_an_os_error(tmp_path: Path) -> None:
    """A directory, a device, a file where a directory should be; and a sink that is not open."""
    (tmp_path / "file").write_bytes(b"")
    for target in (tmp_path, Path("/dev/null"), tmp_path / "file" / "out.csv"):
        with pytest.raises(OSError):
            CsvSink(path=str(target)).open(Claim())
    sink = CsvSink(path=str(tmp_path / "out.csv"))
    with pytest.raises(OSError, match="expected an open file"):
        sink.write(sink.prepare([{"a": 1}]), "key")
    sink.close(False)


def test_the_artifact_is_named_as_it_was_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is relative to the working directory, and stays so."""
    monkeypatch.chdir(path.parent.parent.parent)
    sink = CsvSink(path="out.csv")
    sink.open(Claim())
    assert put(sink, [{"a": 1}])[0].uri == "out.csv"
    sink.close(True)
    assert Path("out.csv").read_bytes() == b"a\n1\n"
