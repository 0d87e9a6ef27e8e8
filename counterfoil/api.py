"""The Python API: what the commands do, as functions.

    import counterfoil

    receipt = counterfoil.run("pipeline.yaml", ledger="sqlite:///audit.db")
    counterfoil.replay(receipt.run, ledger="sqlite:///audit.db").lawful
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from msgspec import Struct

from counterfoil.keeping import Keeping
from counterfoil.ledgers import DEFAULT_URL, Ledger, keeping_of, url_of
from engine import binding, places
from engine.loop import Hooks
from engine.pipeline_file import ledger_url
from engine.ports import Ports, system
from engine.problems import PipelineRefused
from engine.run import Receipt, start
from ledger import ids
from ledger import replay as replaying
from ledger import verify as verifying
from ledger.errors import CounterfoilError, LedgerUnavailable, UsageError
from ledger.laws import Finding
from ledger.replay import Verdict
from ledger.verify import Completeness, Fault
from ledger.world import artifacts
from projections import explain as explaining
from projections.catch_up import Difference
from projections.read_tables import UNREADABLE


class Verified(Struct, kw_only=True, frozen=True):
    """Answers about one run, each its own: bytes and guards, laws, read tables, completeness; if asked, sinks' files."""

    run: str
    integrity: list[Fault]
    lawfulness: list[Finding]
    projections: list[Difference]
    completeness: Completeness
    world: list[Finding] | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing was found; that it is complete only a receipt can prove."""
        found = self.integrity or self.lawfulness or self.projections or self.world
        return not (found or self.completeness.status == "failed")


def run(
    file: str,
    *,
    run_id: str | None = None,
    ledger: str | None = None,
    strict: bool = False,
    wait: bool = False,
    stopping: Callable[[], str | None] = lambda: None,
    progress: Callable[[int], None] = lambda rows: None,
    ports: Ports | None = None,
) -> Receipt:
    """Run a pipeline file to its end, catch the read tables up, and give the receipt.

    `stopping` is asked between rows and gives a reason to stop, or None. Raises `SettingsInvalid`, `UsageError`,
    `LedgerUnavailable`, and `RunIncomplete` when a source or a sink failed (the run is then interrupted and on record).
    """
    ports = ports or system()
    return run_prepared(binding.prepare(file, ports, strict=strict), run_id=run_id, ledger=ledger, wait=wait,
                        hooks=Hooks(stopping, progress), ports=ports)


def run_prepared(
    prepared: binding.Prepared, *, run_id: str | None, ledger: str | None, wait: bool, hooks: Hooks, ports: Ports
) -> Receipt:
    """The same for a pipeline file that has been prepared."""
    url = url_of(ledger, ports.environment, ledger_url(prepared.file.settings))
    apart(prepared, keeping_of(url))
    pipeline = binding.bound(prepared)
    opening = binding.opening(prepared, pipeline, ports, run_id)
    with Ledger.create(url, wait=wait) as opened:
        return driven(opened, hooks, lambda: start(opened.store, opening, pipeline, ports, hooks))


def driven(opened: Ledger, hooks: Hooks, drive: Callable[[], Receipt]) -> Receipt:
    """Drive a run in an open ledger; the read tables are caught up, whatever it comes to.

    Where they cannot be, what the run came to is what counts: whoever reads them next catches them up, or is told.
    """
    hooks.stopping()  # from here on a signal is the run's to answer
    try:
        receipt = drive()
    except CounterfoilError:
        _catch_up(opened)
        raise
    _catch_up(opened)
    return receipt


def _catch_up(opened: Ledger) -> None:
    with suppress(CounterfoilError):
        opened.catch_up().close()


def apart(prepared: binding.Prepared, ledger: Keeping) -> None:
    """A sink that wrote to the ledger's files would destroy the record."""
    for key, name, path in places.files_written(prepared.file):
        if ledger.is_part(path):
            raise PipelineRefused([prepared.file.problem(
                "PATH_TAKEN", key, f"expected a {key[-1]} of its own for sink {name}, found that of the ledger",
                "name another file")])


def replay(run: str, *, ledger: str = DEFAULT_URL, until_seq: int | None = None, until_at: int | None = None,
           deep: bool = False) -> Verdict:
    """Fold a run's log and give the verdict: lawful, or the first event that is not."""
    with Ledger(ledger) as opened:
        return replaying.replay(opened.store, find_run(opened, run), until_seq=until_seq, until_at=until_at,
                                deep=deep).verdict


def rebuild(*, ledger: str = DEFAULT_URL, run: str | None = None) -> str:
    """Make the read tables again from the log; gives the name of the generation swapped in: a file, or a schema."""
    with Ledger(ledger) as opened:
        return opened.rebuild(find_run(opened, run) if run is not None else None)


def explain(run: str, token: str | None = None, *, row: int | None = None, at: int | None = None,
            ledger: str = DEFAULT_URL) -> dict[str, Any]:
    """One token's whole story, or a source row's; `at` as it was known at that seq."""
    if (token is None) == (row is None):
        raise UsageError("USAGE", "expected a token or a row", where="explain")
    with Ledger(ledger) as opened:
        return explain_in(opened, find_run(opened, run), token, row, at)


def explain_in(opened: Ledger, run: str, token: str | None, row: int | None, at: int | None) -> dict[str, Any]:
    """The same in a ledger that is open, for a run that exists."""
    if at is not None:
        with opened.as_of(run, at) as tables:
            return {**_explain(opened, tables, run, token, row), "as_of_seq": at}
    with opened.catch_up() as tables:
        return _explain(opened, tables, run, token, row)


def _explain(opened: Ledger, tables: Any, run: str, token: str | None, row: int | None) -> dict[str, Any]:
    if row is not None:
        return explaining.explain_row(tables, opened.store, run, row)
    return explaining.explain(tables, opened.store, run, token or "")


def verify(run: str, *, ledger: str = DEFAULT_URL, expect: tuple[int, str] | None = None, world: bool = False) -> Verified:
    """Check one run's bytes, guards, laws and read tables; against a receipt (size, root) also that it is all there.

    `world` reads the sinks' files again and compares them with what was confirmed (law R4).
    """
    with Ledger(ledger) as opened:
        return verify_in(opened, find_run(opened, run), expect, world=world)


def verify_in(opened: Ledger, run: str, expect: tuple[int, str] | None = None, *, world: bool = False) -> Verified:
    """The same in a ledger that is open, for a run that exists."""
    return _verified(opened, run, _of_ledger(opened), _differences(opened, run), expect, world=world)


def verify_all(opened: Ledger, *, world: bool = False) -> list[Verified]:
    """Every run of the log; and every run of which only the read tables tell, which is not in the log at all."""
    runs = _runs(opened)
    shared, differences = _of_ledger(opened), _differences(opened, None)
    by_run: dict[str, list[Difference]] = {}
    for one in differences:
        by_run.setdefault(str(one.row.get("run_id")), []).append(one)
    found = [_verified(opened, run, shared, by_run.get(run, []), None, world=world) for run in runs]
    gone = Completeness(status="not_proven", text="the log has no such run: it was rolled back, or tables are ahead")
    found += [Verified(run=run, integrity=shared, lawfulness=[], projections=by_run[run], completeness=gone)
              for run in sorted(set(by_run) - set(runs))]
    if shared and not found:
        none = Completeness(status="not_proven", text="no run is here, and no receipt was given")
        found.append(Verified(run=ids.LEDGER_STREAM, integrity=shared, lawfulness=[], projections=[], completeness=none))
    return found


def _differences(opened: Ledger, run: str | None) -> list[Difference]:
    """Where the read tables disagree with the log; tables that cannot be read as such at all are one difference."""
    try:
        return opened.differences(run)
    except LedgerUnavailable as error:
        if error.code == "LEDGER_DENIED":  # whoever may only look at the log gets its answer
            opened.tell(f"READ_TABLES_NOT_COMPARED: {error.what}")
            return []
        if error.code != UNREADABLE:
            raise
        names = _runs(opened) if run is None else [run]
        return [Difference("read tables", "here", {"run_id": name, "found": error.what}) for name in names]


def _of_ledger(opened: Ledger) -> list[Fault]:
    """What is wrong with the ledger itself: its guards, its own stream, and runs that it opened and has no more."""
    store = opened.store
    return [*verifying.guards(store), *verifying.integrity(store, ids.LEDGER_STREAM), *verifying.registry(store)]


def _verified(opened: Ledger, run: str, shared: list[Fault], differences: list[Difference], expect: tuple[int, str] | None,
              *, world: bool) -> Verified:
    store = opened.store
    return Verified(run=run, integrity=[*shared, *verifying.integrity(store, run)],
                    lawfulness=replaying.replay(store, run, deep=True).verdict.findings, projections=differences,
                    completeness=verifying.completeness(store, run, expect),
                    world=artifacts(store, run, opened.file_reader(run)) if world else None)


def _runs(opened: Ledger) -> list[str]:
    return [head.run for head in opened.heads() if head.run != ids.LEDGER_STREAM]


def find_run(opened: Ledger, name: str) -> str:
    """The run of that id, or the only one whose id begins so. Raises `UsageError` (RUN_UNKNOWN, RUN_AMBIGUOUS)."""
    runs = _runs(opened)
    if name in runs:
        return name
    found = [run for run in runs if name and run.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError("RUN_AMBIGUOUS", f"expected one run, found {len(found)}: {', '.join(found[:5])}", where=name,
                         next_step="give more of its id")
    raise UsageError("RUN_UNKNOWN", f"expected a run, found none named {name!r:.140}", where=opened.shown,
                     next_step="`counterfoil runs` lists them")


__all__ = ["CounterfoilError", "Receipt", "Verdict", "Verified", "explain", "rebuild", "replay", "run", "verify"]
