"""The simulator over ledgers of the product: on PostgreSQL, under cuts; and the laws of the read tables for its seeds."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

from tests.kit import both
from tests.simulation.simulated import command, examine_in, shortened
from tests.simulation.simulated_ledgers import cut_off, grown, in_memory, kept

ON_POSTGRES = range(16)
CUT_OFF = range(100, 108)
ON_BOTH = range(200, 232)
FOLLOWED = range(1000, 1120)


def test_on_postgresql_every_seed_comes_to_what_the_oracle_allows(tmp_path: Path, postgres_url: str) -> None:
    """W1, W6, G13, law P2, law P3, law P4: the store under the production loop is the real one, each process has its own;
    small runs die at every commit."""
    both.pair(tmp_path, postgres_url, "simulated")
    reports = [examine_in(postgres_url, seed) for seed in ON_POSTGRES]
    assert [f"{command(one.seed)} --store postgres: {shortened(one.wrong[0])}" for one in reports if one.wrong] == []
    seen = sum((one.seen for one in reports), Counter[str]())
    assert min(seen[name] for name in ("struck: append_lost", "struck: append_unheard", "cut at every commit")) > 0


def test_a_connection_that_is_cut_at_a_commit_changes_nothing(postgres_url: str) -> None:
    """W6, law P3: before, amid and after each COMMIT and its answer: one process goes on, and its log is the uncut one's."""
    reports = [cut_off(postgres_url, seed, 4) for seed in CUT_OFF]
    assert [text for one in reports for text in one.wrong] == []
    seen = sum((one.seen for one in reports), Counter[str]())
    assert seen["a connection was cut and made again"] >= len(CUT_OFF)


def test_seeds_are_the_same_record_on_both_databases(tmp_path: Path, postgres_url: str) -> None:
    """F5, law P5, law P1: same bytes, same tables; and caught up in any pieces they are those of a rebuild, on each."""
    pair = both.pair(tmp_path, postgres_url, "simulated")
    one, other = kept(pair.sqlite), kept(pair.postgres)
    with closing(one.store), closing(other.store):
        sqlite, postgres = grown(one, ON_BOTH, 0.2), grown(other, ON_BOTH, 0.02)
    assert (sqlite.wrong, postgres.wrong) == ([], [])
    assert both.differing(sqlite.log, postgres.log) == []
    assert both.differing(sqlite.tables, postgres.tables) == []
    assert min(sqlite.catch_ups, postgres.catch_ups) > 5


def test_tables_that_follow_any_seed_are_those_of_a_rebuild(tmp_path: Path) -> None:
    """F5, law P1: uncut and cut, caught up while they are written, on SQLite."""
    found = grown(in_memory(tmp_path), FOLLOWED, 0.03)
    assert found.wrong == []
    assert found.catch_ups > 30
