"""The doors before a server that cannot be used: which code, on one line, without the password; and nothing was changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

import migrations
from tests.doors.story import PIPELINE, ROWS
from tests.doors.told import ask, done, tell, write
from tests.kit.postgres import Postgres
from tests.kit.postgres_databases import connected
from tests.ledger.revisions import Place

READING = (("runs",), ("show", "x"), ("replay", "x"), ("explain", "x", "0"), ("verify",), ("rebuild",), ("tokens", "x"),
           ("query", "SELECT 1"), ("pending", "x"), ("graph", "x"), ("db", "check"), ("db", "current"))
WRITING = (("run", "pipeline.yaml"), ("db", "upgrade"), ("resume", "x"), ("abandon", "x", "--reason", "no more"))
SECRET = "unspoken"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with something to run."""
    for name in ("COUNTERFOIL_LEDGER", "PGPASSWORD", "PGUSER", "PGHOST", "PGPORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    write({"pipeline.yaml": PIPELINE, "in.csv": ROWS})


def refused(url: str, code: str, *commands: tuple[str, ...], debug: bool = True) -> list[str]:
    """Each command: exit 6, that code, one line, and no password in it, nor in the traceback of the first; no sink made."""
    password = make_url(url).password or SECRET
    errors = []
    for command in commands:
        told = tell(*command, ledger=url)
        *warnings, error = told.err.splitlines()
        assert (told.code, told.out, error.partition(":")[0]) == (6, "", code), (command, told.err)
        assert [line for line in warnings if not line.startswith("warning: ")] == []
        assert password not in told.err
        errors.append(error)
    if debug:
        traced = tell("--debug", *commands[0], ledger=url).err
        assert "Traceback" in traced and password not in traced
    assert not Path("store.csv").exists()
    return errors


def everything(server: Postgres, url: str) -> object:
    """All that a database holds, whoever may see it."""
    return Place(server.url(make_url(url).database or "")).everything()


def test_a_server_that_is_not_there(postgres_server: Postgres) -> None:
    """W6: nobody listens on the port."""
    url = f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/db?connect_timeout=2"
    for error in refused(url, "LEDGER_UNREACHABLE", *READING, *WRITING):
        assert "127.0.0.1:1/db" in error


def test_a_password_that_is_wrong_or_missing(postgres_url: str) -> None:
    """W6: and a login that is not known."""
    made = make_url(postgres_url)
    without = f"postgresql://{made.username}@{made.host}:{made.port}/{made.database}"
    for url in (made.set(password=SECRET), make_url(without), made.set(username="nobody_here")):
        for error in refused(url.render_as_string(hide_password=False), "LEDGER_DENIED", *READING[:2], *WRITING[:2]):
            assert "assword" in error


def test_a_database_that_is_not_there(postgres_url: str) -> None:
    """W6: none is made."""
    url = make_url(postgres_url).set(database="not_there").render_as_string(hide_password=False)
    for error in refused(url, "LEDGER_MISSING", *READING[:2], *WRITING):
        assert "not_there" in error and "make the database" in error


def test_a_database_without_a_ledger(postgres_url: str) -> None:
    """F7: reading makes none; `db upgrade` would, and is named."""
    before = Place(postgres_url).everything()
    commands = [one for one in (*READING, *WRITING) if one not in (("run", "pipeline.yaml"), ("db", "upgrade"))]
    refused(postgres_url, "LEDGER_MISSING", *commands)
    refused(f"{postgres_url}?schema=elsewhere", "LEDGER_MISSING", ("runs",))
    assert Place(postgres_url).everything() == before


FOREIGN = {
    "one table of that name": (["CREATE TABLE events (id int)"], "LEDGER_FOREIGN", "no table payloads"),
    "all three names": (["CREATE TABLE events (id int)", "CREATE TABLE streams (id int)", "CREATE TABLE payloads (id int)"],
                        "LEDGER_SCHEMA", "found none"),
    "views of those names": (["CREATE VIEW events AS SELECT 1", "CREATE VIEW streams AS SELECT 1"],
                             "LEDGER_FOREIGN", "events"),
    "other tables": (["CREATE TABLE invoices (id int)"], "LEDGER_FOREIGN", "invoices"),
    "another's migrations": (["CREATE TABLE alembic_version (version_num text)",
                              "INSERT INTO alembic_version VALUES ('1a2b')"], "LEDGER_FOREIGN", "alembic_version"),
    "another table of versions": (["CREATE TABLE alembic_version (x int)"], "LEDGER_FOREIGN", "alembic_version"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_another_programs_schema_is_left_alone(what: str, postgres_url: str) -> None:
    """W6, F7: its tables stay, also those that are called as ours are, and nothing is made among them."""
    statements, code, found = FOREIGN[what]
    with connected(postgres_url) as session:
        for statement in ("CREATE SCHEMA counterfoil", "SET search_path TO counterfoil", *statements):
            session.execute(statement)
    before = Place(postgres_url).everything()
    for error in refused(postgres_url, code, ("run", "pipeline.yaml"), ("db", "upgrade")):
        assert found in error
    for command in (("runs",), ("db", "check"), ("verify",)):
        assert tell(*command, ledger=postgres_url).code == 6
    assert Place(postgres_url).everything() == before
    done("run", "pipeline.yaml", "--run-id", "x", ledger=f"{postgres_url}?schema=beside")


def test_a_revision_that_is_not_known(postgres_url: str) -> None:
    """F7: a later version's, or none: found and expected named; nothing is read or written."""
    done("run", "pipeline.yaml", "--run-id", "x", ledger=postgres_url)
    Path("store.csv").unlink()
    place = Place(postgres_url)
    for statement in ("UPDATE alembic_version SET version_num = '9999_later'", "DELETE FROM alembic_version",
                      f"INSERT INTO alembic_version VALUES ('{migrations.HEADS['log']}'), ('9999_later')",
                      "DROP TABLE alembic_version"):
        place.execute(statement)
        before = place.everything()
        commands = [one for one in (*READING, *WRITING) if one != ("db", "current")]
        for error in refused(postgres_url, "LEDGER_SCHEMA", *commands, debug=False):
            assert migrations.HEADS["log"] in error
        assert ask("db", "current", ledger=postgres_url)["current"] is False
        assert place.everything() == before


@pytest.fixture
def restarted(postgres_server: Postgres) -> Iterator[Postgres]:
    """A server that a test may set up anew."""
    yield postgres_server
    postgres_server.settle()


@pytest.mark.parametrize(("settings", "code"), [
    ({"fsync": "off"}, "LEDGER_UNSAFE"), ({"full_page_writes": "off"}, "LEDGER_UNSAFE"),
    ({"default_transaction_read_only": "on"}, "LEDGER_READ_ONLY"),
])
def test_a_server_that_may_lose_what_it_acknowledged_or_takes_nothing(
    settings: dict[str, str], code: str, restarted: Postgres, postgres_url: str
) -> None:
    """W6: nothing is made, begun or appended; what there is can be read, and `db check` says it."""
    ledger, new = f"{postgres_url}?schema=there", f"{postgres_url}?schema=new"
    done("run", "pipeline.yaml", "--run-id", "x", ledger=ledger)
    Path("store.csv").unlink()
    restarted.restart(**settings)
    before = everything(restarted, postgres_url)
    (setting,) = settings
    for error in (*refused(ledger, code, *WRITING[:2]), *refused(new, code, *WRITING[:2])):
        assert setting in error or code == "LEDGER_READ_ONLY"
    assert ask("show", "x", ledger=ledger)["status"] == "completed"
    told = tell("db", "check", ledger=ledger)
    assert told.error.startswith(f"{code}: ")
    assert told.code == (6 if code == "LEDGER_UNSAFE" else 0)
    assert done("verify", "x", ledger=ledger).code == 0
    assert everything(restarted, postgres_url) == before


def test_a_server_that_comes_back_is_used_again(restarted: Postgres, postgres_url: str) -> None:
    """W6: killed between two commands: exit 6 while it is away, and all is there afterwards."""
    done("run", "pipeline.yaml", "--run-id", "x", ledger=postgres_url)
    Path("store.csv").unlink()
    before = done("tokens", "x", "-o", "json", ledger=postgres_url).out
    restarted.kill()
    refused(f"{postgres_url}?connect_timeout=2", "LEDGER_UNREACHABLE", ("runs",), ("db", "check"), ("run", "pipeline.yaml"))
    restarted.start()
    assert done("tokens", "x", "-o", "json", ledger=postgres_url).out == before
    done("run", "pipeline.yaml", "--run-id", "y", ledger=postgres_url)


def test_the_url_of_a_pipeline_file_is_used_and_goes_on_record_without_its_password(postgres_url: str) -> None:
    """W6, F7: `ledger.url` in the file."""
    password = make_url(postgres_url).password or ""
    write({"pipeline.yaml": PIPELINE + f"ledger: {{url: '{postgres_url}?schema=named'}}\n"})
    done("run", "pipeline.yaml", "--run-id", "x", ledger=None)
    place = Place(f"{postgres_url}?schema=named")
    bodies = place.query("SELECT body FROM events UNION ALL SELECT bytes FROM payloads")
    assert len(bodies) > 60 and not [body for (body,) in bodies if password.encode() in bytes(body)]
