"""The promised tables: their columns, the forms of their values, and one floor plan that alembic and the metadata share."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, create_engine
from sqlalchemy.pool import NullPool

import ledger.tables
import migrations
import projections.tables
from ledger.guards import TRIGGERS
from migrations import Branch
from projections.views import VIEW_NAMES
from tests.kit.log import AT
from tests.ledger import lawful, lawful_groups, lawful_many
from tests.ledger.lawful_many import LAWFUL
from tests.projections.reading import Told, told

PROMISED = {
    "runs": "run_id pipeline status started_at sealed_at settings_hash rows_read tokens events root unreadable_from_seq",
    "nodes": "run_id node_id name kind plugin plugin_version settings_hash step",
    "edges": "run_id edge_id from_node to_node label mode",
    "rows": "run_id row_index token_id valid source_position source_key data_hash seq",
    "tokens": "run_id token_id row_index branch_name fork_group_id join_group_id expand_group_id batch_id seq",
    "token_parents": "run_id token_id parent_token_id ordinal",
    "node_states": "run_id token_id node_id step_index attempt status input_hash output_hash started_at duration_ms error "
                   "context opened_seq closed_seq",
    "routing_events": "run_id seq ordinal token_id node_id edge_id mode routing_group_id reason reason_hash",
    "token_outcomes": "run_id token_id outcome sink_name fork_group_id join_group_id expand_group_id batch_id error_hash "
                      "reason seq",
    "coalesce_groups": "run_id coalesce group_id row_index status trigger failure_reason policy merge_strategy "
                       "expected_branches branches_arrived branches_lost branches_missing arrival_order merged_token_id "
                       "wait_duration_ms collisions opened_seq closed_seq",
    "batches": "run_id batch_id aggregation number status trigger size",
    "batch_members": "run_id batch_id token_id ordinal",
    "calls": "run_id token_id node_id attempt call_index kind status request_hash response_hash latency_ms seq",
    "sink_writes": "run_id sink write_id tokens status uri size_bytes content_hash idempotency_key seq",
    "violations": "run_id law seq token_id expected found",
    "projection_places": "projector fingerprint stream seq",
}

TIMES = {"runs": ("started_at", "sealed_at"), "node_states": ("started_at",)}
HASHES = ("hash", "root")
"""How the names of columns that hold hashes end."""

JSON_COLUMNS = {"coalesce_groups": ("expected_branches", "branches_arrived", "branches_lost", "branches_missing",
                                    "arrival_order", "collisions"),
                "node_states": ("context",), "sink_writes": ("tokens",)}

SCHEMES: dict[Branch, MetaData] = {"log": ledger.tables.metadata, "read": projections.tables.metadata}


def values(view: str, column: str) -> Iterator[object]:
    """What a column holds over all lawful logs, where it holds anything."""
    for build in LAWFUL.values():
        with told(build()) as found:
            yield from (value for (value,) in found.told(view, column, f"{column} IS NOT NULL"))


@pytest.mark.parametrize("view", PROMISED)
def test_each_promised_table_has_its_columns(view: str) -> None:
    """F2: in the promised order, `run_id` first, whatever more there is."""
    with told(lawful.one_row()) as found:
        columns = [row[0] for row in found.tables.select(f"SELECT name FROM pragma_table_info('{view}')")]
    promised = PROMISED[view].split()
    assert [one for one in columns if one in promised] == promised
    assert columns[0] == "run_id"
    assert set(VIEW_NAMES) == set(PROMISED)


@pytest.mark.parametrize("view", [one for one in PROMISED if one not in ("violations", "projection_places")])
def test_each_promised_table_has_rows_in_some_lawful_run(view: str) -> None:
    """F2: so what the other tests say of its values is said of something."""
    assert any(True for _ in values(view, "run_id"))


@pytest.mark.parametrize(("view", "column"), [(view, column) for view, columns in TIMES.items() for column in columns])
def test_times_are_utc_with_microseconds(view: str, column: str) -> None:
    """F2: ISO 8601, and a `Z`."""
    found = list(values(view, column))
    assert found
    for value in found:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", str(value)), value


def test_a_time_is_the_events_own_to_the_microsecond() -> None:
    """F2: also one with few microseconds, whose zeros stand; a state that one event opens began its duration before."""
    log = lawful.one_row()
    with told(log) as found:
        assert AT == 1_790_000_000_000_000
        assert found.one("runs")["started_at"] == "2026-09-21T14:13:20.000000Z"
        assert found.told("node_states", "started_at, duration_ms", "node_id = 'step'") == [
            ("2026-09-21T14:13:19.999995Z", 0.005)]


@pytest.mark.parametrize(
    ("view", "column"),
    [(view, column) for view, columns in PROMISED.items() for column in columns.split() if column.endswith(HASHES)],
)
def test_hashes_are_lower_case_hex(view: str, column: str) -> None:
    """F2: 64 digits, or nothing (nodes by hand have no settings to hash)."""
    found = list(values(view, column))
    assert found
    for value in found:
        assert re.fullmatch(r"[0-9a-f]{64}" if view != "nodes" else "", str(value)), value


@pytest.mark.parametrize(("view", "column"), [(view, one) for view, columns in JSON_COLUMNS.items() for one in columns])
def test_json_columns_hold_json_text(view: str, column: str) -> None:
    """F2: lists and objects, never a bare value."""
    found = list(values(view, column))
    assert found
    for value in found:
        assert isinstance(msgspec.json.decode(str(value)), (list, dict))


def test_json_is_in_declared_order_and_in_the_promised_forms() -> None:
    """D7, A3: as text, to the letter: what arrived first does not come first but in `arrival_order`."""
    texts = "expected_branches, branches_arrived, branches_lost, branches_missing, arrival_order, collisions"
    with told(lawful_groups.quorum_met()) as found:
        assert found.told("coalesce_groups", texts) == [(
            '["a","b","c","d"]', '["a","c"]', "{}", '["b","d"]',
            '[{"branch":"c","offset_ms":0},{"branch":"a","offset_ms":0}]', "{}")]
    with told(lawful_groups.all_lost()) as found:
        assert found.told("coalesce_groups", "branches_lost") == [(
            '{"a":"failed:gate_a:bad","b":"routed_away:gate_b:away","c":"discarded:step_c:bad","d":"filtered:step_d"}',)]
    with told(lawful_groups.collided()) as found:
        assert found.told("coalesce_groups", "collisions") == [('{"x":["a","b"]}',)]
    with told(lawful_many.batch_rejected()) as found:
        assert ('["totals@1:1","totals@1:0"]',) in found.told("sink_writes", "tokens")


def test_the_place_of_a_run_is_its_last_event() -> None:
    """F5: by the stream's name."""
    log = lawful.three_rows()
    with told(log) as found:
        assert found.tables.select("SELECT stream, seq FROM projection_places") == [(log.run, len(log.said))]


def counts(found: Told) -> set[object]:
    """Numbers that count from 0 or 1, by what they are."""
    return {min(value for (value,) in found.told(view, column)) for view, column in (
        ("rows", "row_index"), ("batch_members", "ordinal"), ("token_parents", "ordinal"), ("nodes", "step"))}


def test_rows_ordinals_and_steps_count_from_0_attempts_and_batches_from_1() -> None:
    """F2: as the fine print of the tables says."""
    with told(lawful_many.batch_totals()) as found:
        assert counts(found) == {0}
        assert {row["attempt"] for row in found.rows("node_states")} == {1}
        assert min(row["number"] for row in found.rows("batches")) == 1


@pytest.mark.parametrize("branch", SCHEMES)
def test_a_branch_ends_where_its_scripts_end(branch: Branch) -> None:
    """F7: one head a branch, and it is the one that `migrations.HEADS` names."""
    here = Path(migrations.__file__).parent
    config = Config()
    config.set_main_option("script_location", str(here).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(here / branch / "versions").replace("%", "%%"))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEADS[branch]]


@pytest.fixture(params=SCHEMES)
def branch(request: pytest.FixtureRequest) -> Branch:
    """Each branch of the migrations."""
    found: Branch = request.param
    return found


@pytest.fixture
def migrated(branch: Branch, tmp_path: Path) -> Iterator[Engine]:
    """A database at the head of the branch."""
    migrations.upgrade(f"sqlite:///{tmp_path}/migrated.db", branch)
    engine = create_engine(f"sqlite:///{tmp_path}/migrated.db", poolclass=NullPool)
    yield engine
    engine.dispose()


def test_alembic_finds_no_drift_from_the_metadata(branch: Branch, migrated: Engine) -> None:
    """F7: what the scripts make is what the metadata says."""
    with migrated.connect() as connection:
        options = {"compare_type": True, "include_object": lambda _, name, kind, *rest: name != migrations.VERSION_TABLE}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), SCHEMES[branch]) == []


def test_drift_would_be_found(branch: Branch, migrated: Engine) -> None:
    """F7: the comparison itself: a column that no script makes."""
    with migrated.connect() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {next(iter(SCHEMES[branch].tables))} ADD COLUMN drifted TEXT")
        assert compare_metadata(MigrationContext.configure(connection), SCHEMES[branch]) != []


def test_the_metadata_makes_the_same_tables_to_the_letter(branch: Branch, migrated: Engine, tmp_path: Path) -> None:
    """F7: also what alembic does not compare: keys, tables without row numbers, conditions of indexes."""
    other = create_engine(f"sqlite:///{tmp_path}/metadata.db", poolclass=NullPool)
    SCHEMES[branch].create_all(other)
    other.dispose()
    assert shapes(tmp_path / "migrated.db") == shapes(tmp_path / "metadata.db")


def shapes(path: Path) -> dict[str, str]:
    """Name to DDL of each table and index, with the white space evened out."""
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL "
                                  "AND name <> ?", (migrations.VERSION_TABLE,)).fetchall()
    finally:
        connection.close()
    return {name: " ".join(sql.split()) for name, sql in rows}


@pytest.mark.parametrize(("branch", "kind", "texts"), [("log", "trigger", TRIGGERS.values()), ("read", "trigger", []),
                                                       ("log", "view", [])], indirect=["branch"])
def test_guards_stand_on_the_log_alone(migrated: Engine, kind: str, texts: list[str]) -> None:
    """F7: in the words that the store compares them with; the read tables can be thrown away."""
    with migrated.connect() as connection:
        found = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE type = ?", (kind,)).scalars().all()
    assert sorted(found) == sorted(texts)


def test_upgrading_again_does_nothing(branch: Branch, migrated: Engine) -> None:
    """F5, F7: at the head there is nothing to do."""
    url = str(migrated.url)
    path = Path(str(migrated.url.database))
    before = path.read_bytes()
    migrations.upgrade(url, branch)
    assert migrations.current(url) == migrations.HEADS[branch]
    assert path.read_bytes() == before


def test_an_upgrade_that_fails_leaves_nothing(
    branch: Branch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F7: one transaction, done whole or not at all."""
    with sqlite3.connect(tmp_path / "taken.db") as connection:
        connection.execute(f"CREATE TABLE {list(SCHEMES[branch].tables)[-1]} (of_another_program)")
    connection.close()
    before = shapes(tmp_path / "taken.db")
    with pytest.raises(Exception, match="already exists"):
        migrations.upgrade(f"sqlite:///{tmp_path}/taken.db", branch)
    assert shapes(tmp_path / "taken.db") == before


def test_every_seq_is_that_of_an_event() -> None:
    """F2, F6: each row cites its evidence."""
    columns = {view: [one for one in names.split() if one in ("seq", "opened_seq", "closed_seq")]
               for view, names in PROMISED.items() if view != "projection_places"}
    for build in LAWFUL.values():
        log = build()
        with told(log) as found:
            for view, names in columns.items():
                for name in names:
                    assert all(1 <= value <= len(log.said) for (value,) in found.told(view, name, f"{name} IS NOT NULL"))
