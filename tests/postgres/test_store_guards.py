"""The log is append-only for its own owner too, and whatever was done to what keeps it so is found, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from ledger import postgres_guards
from ledger.postgres_store import PostgresStore
from ledger.postgres_url import parsed
from tests.kit.postgres import Postgres
from tests.kit.postgres_databases import connected
from tests.ledger.appending import everything, part, payload


@pytest.fixture
def owner(log_url: str) -> Iterator[psycopg.Connection]:
    """The owner of a log's tables, in a log with two streams and payloads of both kinds."""
    with closing(PostgresStore(parsed(log_url), write=True)) as store:
        store.append([part("r", None, 3, payloads=[payload(1, True), payload(2)]), part("s", None, 1)])
    with closing(connected(log_url)) as connection:
        connection.execute("SET search_path TO counterfoil")
        yield connection


REFUSED = (
    ("UPDATE events SET body = ''", "events are never changed"),
    ("UPDATE events SET seq = seq + 10 WHERE seq = 3", "events are never changed"),
    ("UPDATE events SET token = 'x' WHERE false", "events are never changed"),
    ("DELETE FROM events WHERE seq = 3", "events are never deleted"),
    ("TRUNCATE events", "events are never deleted"),
    ("INSERT INTO events SELECT * FROM events ON CONFLICT (stream, seq) DO UPDATE SET body = ''",
     "events are never changed"),
    ("MERGE INTO events e USING events o ON e.stream = o.stream AND e.seq = o.seq WHEN MATCHED THEN DELETE",
     "events are never deleted"),
    ("WITH gone AS (DELETE FROM events RETURNING *) SELECT FROM gone", "events are never deleted"),
    ("INSERT INTO events SELECT * FROM events WHERE seq = 1", "duplicate key"),
    ("INSERT INTO events SELECT stream, 0, type, v, token, row_index, at, body FROM events WHERE seq = 1",
     "check constraint"),
    ("INSERT INTO payloads SELECT stream, -1, salt, bytes, permanent FROM payloads WHERE n = 1", "check constraint"),
    ("UPDATE payloads SET bytes = 'x'", "a payload is never changed, only erased"),
    ("UPDATE payloads SET salt = NULL, bytes = NULL WHERE n = 1", "a payload is never changed, only erased"),
    ("UPDATE payloads SET salt = NULL WHERE n = 2", "a payload is never changed, only erased"),
    ("UPDATE payloads SET bytes = NULL WHERE n = 2", "a payload is never changed, only erased"),
    ("UPDATE payloads SET salt = NULL, bytes = NULL, n = 9 WHERE n = 2", "a payload is never changed, only erased"),
    ("UPDATE payloads SET salt = NULL, bytes = NULL, stream = 9 WHERE n = 2", "a payload is never changed, only erased"),
    ("UPDATE payloads SET salt = NULL, bytes = NULL, permanent = 1 WHERE n = 2", "a payload is never changed, only erased"),
    ("UPDATE payloads SET salt = NULL, bytes = NULL, permanent = 0 WHERE n = 1",
     "a payload is never changed, only erased"),
    ("UPDATE payloads SET permanent = 0 WHERE n = 1", "a payload is never changed, only erased"),
    ("DELETE FROM payloads WHERE n = 2", "payloads are never deleted"),
    ("TRUNCATE payloads", "payloads are never deleted"),
    ("UPDATE streams SET size = size - 1", "a stream never goes back"),
    ("UPDATE streams SET epoch = epoch - 1", "a stream never goes back"),
    ("UPDATE streams SET run_id = run_id || 'x'", "a stream never goes back"),
    ("UPDATE streams SET stream = stream + 10", "a stream never goes back"),
    ("DELETE FROM streams", "streams are never deleted"),
    ("TRUNCATE streams", "streams are never deleted"),
    ("TRUNCATE streams, events, payloads CASCADE", "never deleted"),
)


@pytest.mark.parametrize(("statement", "reason"), REFUSED)
def test_the_owner_himself_changes_and_deletes_nothing(
    owner: psycopg.Connection, reading: PostgresStore, statement: str, reason: str
) -> None:
    """F1: each way to change or delete a row of each table is refused, and says why."""
    before = everything(reading)
    with pytest.raises(psycopg.Error, match=reason):
        owner.execute(statement.encode())
    assert everything(reading) == before and reading.guards() == []


def test_a_payload_that_may_be_erased_can_be(owner: psycopg.Connection, reading: PostgresStore) -> None:
    """F1: salt and bytes go together, once and for all; erased is erased."""
    for _ in range(2):
        owner.execute("UPDATE payloads SET salt = NULL, bytes = NULL WHERE n = 2")
    assert reading.payloads("r", [2])[2][1:] == (None, None, False)
    with pytest.raises(psycopg.Error, match="never changed, only erased"):
        owner.execute("UPDATE payloads SET salt = 'x', bytes = 'y' WHERE n = 2")
    assert reading.guards() == []


TAMPERED = (
    *((f"DROP TRIGGER {name} ON {guard.table}", f"guard {name} is missing")
      for name, guard in postgres_guards.GUARDS.items()),
    *((f"ALTER TABLE {guard.table} DISABLE TRIGGER {name}", f"guard {name} was changed")
      for name, guard in postgres_guards.GUARDS.items()),
    ("ALTER TABLE events ENABLE REPLICA TRIGGER events_no_update", "guard events_no_update was changed"),
    ("ALTER TRIGGER events_no_update ON events RENAME TO other", "guard events_no_update is missing"),
    ("ALTER TRIGGER events_no_update ON events RENAME TO other", "trigger other does not belong here"),
    ("CREATE OR REPLACE TRIGGER events_no_update BEFORE UPDATE ON events FOR EACH STATEMENT WHEN (false) "
     "EXECUTE FUNCTION refuse('events are never changed')", "guard events_no_update was changed"),
    ("CREATE OR REPLACE TRIGGER events_no_update BEFORE UPDATE OF token ON events FOR EACH STATEMENT "
     "EXECUTE FUNCTION refuse('events are never changed')", "guard events_no_update was changed"),
    ("CREATE OR REPLACE TRIGGER events_no_update BEFORE UPDATE ON events FOR EACH ROW "
     "EXECUTE FUNCTION refuse('events are never changed')", "guard events_no_update was changed"),
    ("CREATE OR REPLACE TRIGGER events_no_update AFTER UPDATE ON events FOR EACH STATEMENT "
     "EXECUTE FUNCTION refuse('events are never changed')", "guard events_no_update was changed"),
    ("CREATE OR REPLACE TRIGGER events_no_update BEFORE UPDATE ON events FOR EACH STATEMENT EXECUTE FUNCTION refuse('x')",
     "guard events_no_update was changed"),
    ("CREATE OR REPLACE TRIGGER events_no_update BEFORE UPDATE ON events FOR EACH STATEMENT "
     "EXECUTE FUNCTION refuse_going_back()", "guard events_no_update was changed"),
    ("DROP TRIGGER events_no_update ON events; CREATE TRIGGER events_no_update BEFORE UPDATE ON payloads "
     "FOR EACH STATEMENT EXECUTE FUNCTION refuse('events are never changed')", "guard events_no_update was changed"),
    (f"CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $${postgres_guards.FUNCTIONS['refuse']}$$; "
     "CREATE OR REPLACE TRIGGER events_no_update BEFORE UPDATE ON events FOR EACH STATEMENT "
     "EXECUTE FUNCTION public.refuse('events are never changed')", "guard events_no_update was changed"),
    ("CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
     "guard streams_no_delete was changed"),
    ("CREATE OR REPLACE FUNCTION refuse_all_but_erasure() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
     "guard payloads_no_update was changed"),
    ("ALTER FUNCTION refuse_going_back() SET search_path = public, pg_catalog", "guard streams_no_going_back was changed"),
    ("ALTER FUNCTION refuse_going_back() SECURITY DEFINER", "guard streams_no_going_back was changed"),
    ("CREATE TRIGGER more BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse('x')",
     "trigger more does not belong here"),
    ("CREATE FUNCTION more() RETURNS integer LANGUAGE sql AS 'SELECT 1'", "function more does not belong here"),
    ("CREATE TABLE more (number integer)", "table more does not belong here"),
    ("CREATE VIEW more AS SELECT * FROM events", "view more does not belong here"),
    ("CREATE MATERIALIZED VIEW more AS SELECT * FROM events", "view more does not belong here"),
    ("CREATE RULE more AS ON INSERT TO events DO INSTEAD NOTHING", "table events shows other rows than it holds"),
    ("CREATE RULE more AS ON UPDATE TO streams DO ALSO NOTHING", "table streams shows other rows than it holds"),
    ("ALTER TABLE events SET UNLOGGED", "table events does not outlive a crash of the server"),
    ("ALTER TABLE payloads ENABLE ROW LEVEL SECURITY", "table payloads shows other rows than it holds"),
    ("CREATE TABLE public.more () INHERITS (counterfoil.events)", "table events shows other rows than it holds"),
    ("CREATE TABLE public.more (LIKE events); ALTER TABLE events INHERIT public.more",
     "table events shows other rows than it holds"),
    ("ALTER TABLE events DROP CONSTRAINT events_pkey", "key events (stream, seq) is missing"),
    ("ALTER TABLE events DROP CONSTRAINT events_pkey, ADD PRIMARY KEY (stream, seq) DEFERRABLE",
     "key events (stream, seq) is missing"),
    ("ALTER TABLE payloads DROP CONSTRAINT payloads_pkey; CREATE UNIQUE INDEX ON payloads (stream, n) WHERE n > 5",
     "key payloads (stream, n) is missing"),
    ("ALTER TABLE streams DROP CONSTRAINT streams_run_id_key", "key streams (run_id) is missing"),
    ("GRANT DELETE ON events TO PUBLIC", "role public may DELETE events"),
    ("GRANT UPDATE ON payloads TO PUBLIC", "role public may UPDATE payloads"),
    ("GRANT UPDATE (body) ON events TO PUBLIC", "role public may UPDATE events"),
    ("GRANT TRUNCATE ON streams TO pg_monitor", "role pg_monitor may TRUNCATE streams"),
    ("GRANT TRIGGER ON payloads TO pg_monitor", "role pg_monitor may TRIGGER payloads"),
    ("INSERT INTO events SELECT 7, seq, type, v, token, row_index, at, body FROM events WHERE seq = 1 LIMIT 1",
     "events of stream 7 are of no run"),
    ("INSERT INTO payloads VALUES (8, 1, NULL, NULL, 0), (9, 1, NULL, NULL, 0)", "payloads of stream 9 are of no run"),
    ("ALTER TABLE events DROP CONSTRAINT events_seq_check; INSERT INTO events SELECT stream, -1, type, v, token, row_index, "
     "at, body FROM events WHERE seq = 1 LIMIT 1", "events of run r have one before the first"),
    ("ALTER TABLE payloads DROP CONSTRAINT payloads_n_check; INSERT INTO payloads SELECT stream, 0, salt, bytes, permanent "
     "FROM payloads WHERE n = 1 LIMIT 1", "payloads of run r have one before the first"),
)


@pytest.mark.parametrize(("statement", "said"), TAMPERED)
def test_what_is_done_to_the_guards_is_found_by_name(
    owner: psycopg.Connection, reading: PostgresStore, statement: str, said: str
) -> None:
    """F1: by the owner, who may do all of it: nothing before, and that very thing afterwards."""
    assert reading.guards() == []
    owner.execute(statement.encode())
    assert said in reading.guards()


@pytest.mark.parametrize("statement", [
    "GRANT SELECT, INSERT ON streams, events, payloads TO PUBLIC", "GRANT UPDATE ON streams TO PUBLIC",
    "GRANT UPDATE (size, epoch) ON streams TO PUBLIC", "CREATE INDEX ON events (token)", "ANALYZE",
    "CREATE TABLE public.elsewhere (number integer)", "COMMENT ON TABLE events IS 'the log'"])
def test_what_harms_nothing_is_not_complained_of(
    owner: psycopg.Connection, reading: PostgresStore, statement: str
) -> None:
    """F1: the rights of a writer, an index for somebody's questions, tables that lie elsewhere."""
    owner.execute(statement.encode())
    assert reading.guards() == []


def test_a_parent_is_a_way_round_the_guards(owner: psycopg.Connection, reading: PostgresStore) -> None:
    """F1: why a table that inherits is told: what is changed by way of its parent runs no trigger of a statement."""
    owner.execute("CREATE TABLE public.more (LIKE events); ALTER TABLE events INHERIT public.more")
    owner.execute("UPDATE public.more SET body = 'edited' WHERE seq = 3")
    assert [stored.body for stored in reading.read("r", 2)] == [b"edited"]
    assert reading.guards() == ["table events shows other rows than it holds"]


def test_tables_that_lost_their_rows_in_a_crash_were_told_before(
    postgres_server: Postgres, owner: psycopg.Connection, reading: PostgresStore
) -> None:
    """F1, W6: what an unlogged table is: gone when the server was killed."""
    owner.execute("ALTER TABLE events SET UNLOGGED")
    told = reading.guards()
    postgres_server.kill()
    postgres_server.start()
    assert told == ["table events does not outlive a crash of the server"] and list(reading.read("r")) == []
