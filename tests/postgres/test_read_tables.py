"""Read tables on PostgreSQL: generations in schemas, the views that others rely on, and who waits for whom."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import pytest
from sqlalchemy.engine import make_url

from counterfoil.ledgers import keeping_of
from ledger import events as e
from ledger.errors import LedgerUnavailable
from ledger.fold import State
from projections import catch_up as catching
from projections import postgres_shelf
from projections.projector import RunProjector
from projections.projectors import run_projector
from projections.rebuild import Progress, Rebuild, rebuild
from projections.views import VIEW_NAMES
from tests.kit.postgres import Postgres
from tests.kit.postgres_databases import connected
from tests.ledger import lawful, lawful_groups
from tests.projections.shelves import Kept, dump_of, named

BASE = "counterfoil_read"
SECONDS_MAX = 60


@pytest.fixture
def ledger(postgres_url: str) -> Kept:
    """Two runs in memory, their read tables on PostgreSQL."""
    return Kept(keeping_of(postgres_url).shelf(), postgres_url,
                [named(lawful.three_rows(), "a"), named(lawful_groups.all_arrived(), "b")])


class Longer(RunProjector):
    """Tells every row twice, and says so in the pipeline's name."""

    def event(self, state: State, event: e.Event) -> None:
        """As it should be, and once more."""
        super().event(state, event)
        if isinstance(event, e.RunStarted):
            self.run[1] = "longer"
        if isinstance(event, e.RowRead):
            self.records.output.rows.append([event.row + 1000, 1, event.position, None, 1, event.seq])


LONGER = run_projector()._replace(begin=Longer, fingerprint="longer")
WHOLE = "SELECT (SELECT string_agg(DISTINCT pipeline, ' ') FROM {0}.runs), (SELECT count(*) FROM {0}.rows)"


def schemas(url: str) -> list[str]:
    """Those of read tables."""
    with connected(url) as raw:
        return sorted(name for (name,) in raw.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE '%\\_read%'"))


def test_a_reader_in_the_middle_of_an_answer_reads_its_own_generation_to_the_end(ledger: Kept, postgres_url: str) -> None:
    """W13, F5: between two statements; it is dropped when nobody reads it any more."""
    ledger.catch_up()
    with ledger.reading() as reader:
        before = dump_of(reader)
        for projector in (LONGER, run_projector(), LONGER):
            ledger.rebuild(projector=projector)
            assert dump_of(reader) == before
        assert schemas(postgres_url) == [BASE, f"{BASE}_1", f"{BASE}_3", f"{BASE}_4"]
    ledger.rebuild()
    assert schemas(postgres_url) == [BASE, f"{BASE}_4", f"{BASE}_5"]


def test_a_reader_in_the_middle_of_a_long_answer_gets_all_of_it(ledger: Kept) -> None:
    """W13, F5: between two rows."""
    ledger.catch_up()
    with ledger.reading() as reader:
        rows = reader.stream("SELECT * FROM node_states ORDER BY token_id, opened_seq")
        first = next(rows)
        for _ in range(3):
            ledger.rebuild(projector=LONGER)
        assert [first, *rows] == reader.records("SELECT * FROM node_states ORDER BY token_id, opened_seq")


def test_tables_that_were_dropped_before_a_reader_came_say_so(ledger: Kept) -> None:
    """F5: it asks again, and gets the ones that took their place."""
    first = ledger.catch_up()
    for _ in range(2):
        ledger.rebuild()
    with pytest.raises(LedgerUnavailable, match=r"READ_TABLES_UNREADABLE.*ask again"):
        ledger.shelf.open(first)


def test_whoever_asks_the_views_sees_one_whole_version_whatever_is_swapped_in(ledger: Kept, postgres_url: str) -> None:
    """W13, F5: in a statement, and in a transaction of several, by a client that knows only their names; nobody fails."""
    ledger.rebuild()
    with connected(postgres_url) as raw:
        versions = {tuple(raw.execute(WHOLE.format(BASE)).fetchone() or ())}
        ledger.rebuild(projector=LONGER)
        versions.add(tuple(raw.execute(WHOLE.format(BASE)).fetchone() or ()))
    assert len(versions) == 2
    over, seen = Event(), []

    def ask() -> None:
        with connected(postgres_url) as raw:
            while not over.is_set():
                seen.append(tuple(raw.execute(WHOLE.format(BASE)).fetchone() or ()))
                with raw.transaction():
                    name, = raw.execute(f"SELECT string_agg(DISTINCT pipeline, ' ') FROM {BASE}.runs").fetchone() or ()
                    count, = raw.execute(f"SELECT count(*) FROM {BASE}.rows").fetchone() or ()
                    seen.append((name, count))

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask), pool.submit(ask)]
        try:
            for turn in range(6):
                ledger.rebuild(projector=LONGER if turn % 2 else run_projector())
        finally:
            over.set()
        for one in asking:
            one.result(SECONDS_MAX)
    assert set(seen) == versions
    assert len(seen) > 12


def test_a_transaction_that_keeps_reading_the_views_is_told_and_what_was_made_is_kept(
    ledger: Kept, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W13, F5: nobody is ended for it; the next rebuild has only to swap."""
    monkeypatch.setattr(postgres_shelf, "TURNS_MAX", 2)
    old = ledger.catch_up()
    with connected(postgres_url) as raw:
        raw.execute("BEGIN")
        raw.execute(f"SELECT count(*) FROM {BASE}.runs")
        with pytest.raises(LedgerUnavailable, match="LEDGER_BUSY"):
            ledger.rebuild()
        assert ledger.shelf.generation() == old
        raw.execute("COMMIT")
    progress: list[Progress] = []
    assert ledger.rebuild(progress.append) != old
    assert progress[0].total == 0
    assert ledger.differences() == []


def test_rights_on_the_views_and_views_over_them_outlive_a_rebuild(ledger: Kept, postgres_url: str) -> None:
    """W13: what others built on the names that are promised to them stays, and reads the new tables."""
    ledger.rebuild()
    with connected(postgres_url) as raw:
        raw.execute("CREATE SCHEMA mine")
        raw.execute(f"CREATE VIEW mine.names AS SELECT DISTINCT pipeline FROM {BASE}.runs")
        raw.execute(f"GRANT SELECT ON {BASE}.runs TO PUBLIC")
        for projector in (LONGER, run_projector(), LONGER):
            ledger.rebuild(projector=projector)
        assert raw.execute("SELECT * FROM mine.names").fetchall() == [("longer",)]
        assert raw.execute("SELECT has_table_privilege('public', %s, 'SELECT')", (f"{BASE}.runs",)).fetchone() == (True,)


def test_a_view_whose_columns_are_others_now_is_made_anew(ledger: Kept, postgres_url: str) -> None:
    """F5: as an earlier version left it."""
    ledger.rebuild()
    with connected(postgres_url) as raw:
        raw.execute(f"DROP VIEW {BASE}.tokens")
        raw.execute(f"CREATE VIEW {BASE}.tokens AS SELECT 1 AS one, 'x' AS other")
        ledger.rebuild()
        assert raw.execute(f"SELECT count(*) FROM {BASE}.tokens WHERE run_id = 'a'").fetchone() == (3,)


# --- what others did ---------------------------------------------------------------------------------------------------


def test_views_that_show_something_else_are_found_and_turned_back(ledger: Kept, postgres_url: str) -> None:
    """F5, law P1: others rely on them: one that was edited, one that is gone, one that shows other tables."""
    old = ledger.rebuild()
    edited = "run_id, token_id, 'failed' COLLATE \"C\" AS outcome, sink_name, fork_group_id, join_group_id, " \
        "expand_group_id, batch_id, error_hash, reason, seq"
    assert ledger.differences() == []
    name = ledger.rebuild()
    with connected(postgres_url) as raw:
        for statement in (f"CREATE OR REPLACE VIEW {BASE}.token_outcomes AS SELECT {edited} FROM {name}.token_outcomes",
                          f"DROP VIEW {BASE}.rows", f"CREATE OR REPLACE VIEW {BASE}.runs AS SELECT * FROM {old}.runs"):
            raw.execute(statement.encode())
    assert [(one.table, one.row["run_id"]) for one in ledger.differences("a")] == [
        ("rows", "a"), ("runs", "a"), ("token_outcomes", "a")]
    with connected(postgres_url) as raw:
        raw.execute(f"DROP SCHEMA {BASE} CASCADE")
    assert len(ledger.differences("b")) == len(VIEW_NAMES)
    ledger.rebuild()
    assert ledger.differences() == []


def test_a_row_that_stands_there_twice_is_found(ledger: Kept, postgres_url: str, guest: str) -> None:
    """F5, law P1: where the key was dropped; also by one who may make no schema and compares in a file."""
    name = ledger.rebuild()
    ledger.edit("ALTER TABLE p_rows DROP CONSTRAINT p_rows_pkey",
                "INSERT INTO p_rows SELECT * FROM p_rows ORDER BY run, row_index LIMIT 1", name=name)
    with connected(postgres_url) as owner:
        user = make_url(guest).username or ""
        owner.execute(f"GRANT USAGE ON SCHEMA {name} TO {user}".encode())
        owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {user}".encode())
    for shelf in (ledger.shelf, keeping_of(guest).shelf()):
        found = catching.differences(ledger.store, shelf)
        assert [(one.table, one.side, one.row["row_index"]) for one in found] == [("rows", "here", 0)]


def test_tables_of_which_one_is_gone_can_be_made_again(ledger: Kept) -> None:
    """F5, F7: they are read tables all the same, and no foreign ledger."""
    name = ledger.rebuild()
    ledger.edit("DROP TABLE p_rows CASCADE", name=name)
    with pytest.raises(LedgerUnavailable, match=r"READ_TABLES_UNREADABLE.*counterfoil rebuild"):
        ledger.differences()
    ledger.rebuild()
    assert ledger.differences() == []


@pytest.mark.parametrize("schema", ["new", "compared", "1", "2", "7"])
def test_what_somebody_else_keeps_under_such_a_name_is_left_alone(ledger: Kept, postgres_url: str, schema: str) -> None:
    """F5: nothing is dropped that is no read table, whatever it is called; that it is in the way is said."""
    with connected(postgres_url) as raw:
        raw.execute(f"CREATE SCHEMA {BASE}_{schema}".encode())
        raw.execute(f"CREATE TABLE {BASE}_{schema}.wages AS SELECT 4711 AS paid".encode())
        for act in (ledger.rebuild, ledger.rebuild, ledger.rebuild, ledger.differences):
            if (schema, act) in (("new", ledger.rebuild), ("compared", ledger.differences)):
                with pytest.raises(LedgerUnavailable, match=rf"LEDGER_FOREIGN.*wages.*{BASE}_{schema}"):
                    act()
            else:
                act()
        assert raw.execute(f"SELECT paid FROM {BASE}_{schema}.wages".encode()).fetchall() == [(4711,)]
    assert schema == "new" or ledger.dump()["rows"]


@pytest.mark.parametrize("what", ["SEQUENCE {}.mine", "FUNCTION {}.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                                  "TYPE {}.mine AS ENUM ('one')", "DOMAIN {}.mine AS int"])
def test_whatever_somebody_else_keeps_there_is_something(ledger: Kept, postgres_url: str, what: str) -> None:
    """F5: not only tables."""
    with connected(postgres_url) as raw:
        raw.execute(f"CREATE SCHEMA {BASE}_new".encode())
        raw.execute(f"CREATE {what.format(f'{BASE}_new')}".encode())
    with pytest.raises(LedgerUnavailable, match=r"LEDGER_FOREIGN.*mine"):
        ledger.rebuild()


# --- who waits for whom ------------------------------------------------------------------------------------------------


def waits(url: str) -> None:
    """Return when a session waits for an advisory lock."""
    with connected(url) as raw:
        for _ in range(100_000):
            if raw.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchone():
                return
    raise AssertionError("nobody waits")


@contextmanager
def waiting(url: str, what: Callable[[], object]) -> Iterator[Future[object]]:
    """Do something that has to wait for what is held now, and is done when it is let go of."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(what)
    waits(url)
    yield future
    assert not future.done()
    pool.shutdown(wait=False)  # what is held is let go of outside


def test_of_two_that_catch_up_one_waits(ledger: Kept, postgres_url: str) -> None:
    """W13: and finds nothing more to do; the same for two that rebuild."""
    ledger.grow("a", 4)
    ledger.catch_up()
    ledger.grow("a")
    with ledger.shelf.locked(), waiting(postgres_url, ledger.catch_up) as late:
        pass
    assert late.result(SECONDS_MAX) == f"{BASE}_1"
    with ledger.shelf.rebuilding(), waiting(postgres_url, ledger.rebuild) as late:
        pass
    assert late.result(SECONDS_MAX) == f"{BASE}_2"
    assert ledger.differences() == []


def test_whoever_writes_waits_for_a_commit_of_one_that_was_killed(ledger: Kept, postgres_url: str) -> None:
    """W13, law P1: the server may still be at it: in the tables that are read, and in the shadow."""
    ledger.grow("a", 4)
    name = ledger.catch_up()
    ledger.grow("a")
    with ledger.shelf.open(name, write=True), waiting(postgres_url, ledger.catch_up) as late:
        pass
    late.result(SECONDS_MAX)
    with pytest.raises(KeyboardInterrupt):
        ledger.rebuild(interrupted)
    with ledger.shelf.part(0), waiting(postgres_url, ledger.rebuild) as late:
        pass
    late.result(SECONDS_MAX)
    assert ledger.differences() == []


def interrupted(progress: Progress) -> None:
    """A Ctrl-C when there is something in the shadow."""
    if progress.done:
        raise KeyboardInterrupt


def test_a_comparison_that_was_killed_leaves_nothing_that_matters(ledger: Kept, postgres_url: str) -> None:
    """F5: its tables are removed by the next one."""
    ledger.catch_up()
    with connected(postgres_url) as raw:
        raw.execute(f"CREATE SCHEMA {BASE}_compared")
        raw.execute(f"CREATE TABLE {BASE}_compared.p_runs (one int)")
    assert ledger.differences() == []
    assert ledger.left() == []


# --- rights ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def guest(postgres_server: Postgres, postgres_url: str) -> Iterator[str]:
    """The URL of somebody who may connect, and nothing more."""
    name, database = f"guest_{secrets.token_hex(4)}", make_url(postgres_url).database or ""
    with connected(postgres_server.url(database)) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'guest'".encode())
        yield postgres_server.url(database, user=name, password="guest")
        admin.execute(f"DROP OWNED BY {name}".encode())
        admin.execute(f"DROP ROLE {name}".encode())


def test_without_rights_tables_are_read_as_they_are_or_it_is_said_why_not(
    ledger: Kept, postgres_url: str, guest: str
) -> None:
    """W13, F5: nothing to read: denied; what may be read is read, and that it is behind is said; stale tables are not."""
    shelf, said = keeping_of(guest).shelf(), list[str]()
    with pytest.raises(LedgerUnavailable, match="LEDGER_DENIED"):
        catching.catch_up(ledger.store, shelf, said.append)
    ledger.grow("a", 4)
    name = ledger.catch_up()
    with pytest.raises(LedgerUnavailable, match="LEDGER_DENIED"):
        shelf.open(name).select("SELECT * FROM runs")
    with connected(postgres_url) as owner:
        user = make_url(guest).username or ""
        owner.execute(f"GRANT USAGE ON SCHEMA {name} TO {user}".encode())
        owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {user}".encode())
    assert catching.catch_up(ledger.store, shelf, said.append) == name
    assert said == []
    ledger.grow("a")
    assert catching.catch_up(ledger.store, shelf, said.append) == name
    assert len(said) == 1 and said[0].startswith("READ_TABLES_BEHIND") and "LEDGER_DENIED" in said[0]
    with pytest.raises(LedgerUnavailable, match="LEDGER_DENIED"):
        catching.catch_up(ledger.store, shelf, said.append, Rebuild(LONGER))
    with pytest.raises(LedgerUnavailable, match="LEDGER_DENIED"):
        rebuild(ledger.store, shelf, Rebuild(run_projector()))
    with shelf.open(name) as tables, pytest.raises(LedgerUnavailable):
        tables.select("DELETE FROM p_runs")
