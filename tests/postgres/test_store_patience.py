"""A server that is away: waited for as long as was said, by a clock that the test holds, and then named."""

from __future__ import annotations

from contextlib import closing

import pytest

from ledger.errors import LedgerUnavailable
from ledger.postgres_session import Patience
from ledger.postgres_store import ATTEMPTS_MAX, PostgresStore
from ledger.postgres_url import parsed
from tests.kit.cutting import Cut, cutting
from tests.kit.postgres import Postgres
from tests.ledger.appending import part
from tests.postgres import cuts, kills
from tests.postgres.cuts import story


class Clock:
    """Stands still but for the pauses that are made, of which it can be told what to do at which."""

    def __init__(self, *then: object) -> None:
        self.now = 0.0
        self.pauses = 0
        self._then = dict(zip(then[::2], then[1::2], strict=True))

    def patience(self, seconds: float = 30.0) -> Patience:
        """With a pause each second."""
        return Patience(seconds, 1.0, lambda: self.now, self._pause)

    def _pause(self, seconds: float) -> None:
        self.now += seconds
        self.pauses += 1
        act = self._then.get(self.pauses)
        if callable(act):
            act()


def test_a_server_that_comes_back_in_time_is_waited_for(postgres_server: Postgres, log_url: str) -> None:
    """W6: killed between two appends, there again at the tenth look: the writer goes on."""
    clock = Clock(10, postgres_server.start)
    with closing(PostgresStore(parsed(log_url), write=True, patience=clock.patience())) as store:
        store.hold("r")
        store.append([part("r", None, 2)])
        postgres_server.kill()
        store.append([part("r", 2, 3)])
        assert clock.pauses == 10
        assert [stored.seq for stored in store.read("r")] == [1, 2, 3]


def test_a_server_that_stays_away_is_named_and_a_later_writer_goes_on(postgres_server: Postgres, log_url: str) -> None:
    """W6: as long as was said and no longer, and once; one line, exit 6, nothing lost."""
    clock = Clock()
    store = PostgresStore(parsed(log_url), write=True, patience=clock.patience(30))
    store.append([part("r", None, 2)])
    postgres_server.kill()
    for act in (lambda: store.append([part("r", 2, 3)]), lambda: store.head("r"), lambda: list(store.read("r")),
                lambda: store.hold("r"), lambda: store.wait(1), lambda: store.snapshot().__enter__()):
        with pytest.raises(LedgerUnavailable) as told:
            act()
        assert told.value.code == "LEDGER_UNREACHABLE" and told.value.exit_code == 6 and clock.pauses == 30
        assert "\n" not in str(told.value) and "start the server or mend the network, then resume" in str(told.value)
    postgres_server.start()
    with closing(PostgresStore(parsed(log_url), write=True)) as later:
        later.append([part("r", 2, 4)])
    assert store.head("r") == part("r", 2, 4).head, "it is not of no use for ever"
    with pytest.raises(LedgerUnavailable, match="FENCED"):
        store.append([part("r", 2, 3)])
    postgres_server.kill()
    with pytest.raises(LedgerUnavailable):
        store.head("r")
    assert clock.pauses == 60, "a server that came back is waited for again"
    store.close()


def test_a_store_that_was_closed_stays_closed(log_url: str) -> None:
    """W6: it is no connection that was cut, and it holds no run any more."""
    store = PostgresStore(parsed(log_url), write=True)
    store.append([part("r", None, 2)])
    store.close()
    with pytest.raises(RuntimeError, match="closed"):
        store.append([part("r", 2, 3)])
    with pytest.raises(RuntimeError, match="closed"):
        store.head("r")


@pytest.mark.parametrize(("later", "bound"), [(-8, 21), (8, 21), (13, ATTEMPTS_MAX), (31, ATTEMPTS_MAX)], ids=[
    "while they are made", "while the run is held again", "while it is read again", "while it is sent again"])
def test_connections_that_are_cut_without_end_are_counted(log_url: str, later: int, bound: int) -> None:
    """W6: a server that takes each connection, and a network that cuts each at the same place: bounded, and named."""
    told = story(1, 2)
    opening = cuts.recorded(log_url, story(0, 2))[:cuts.opening(log_url)]
    sent = sum(message.direction == "client" for message in opening)
    endless = [Cut("client", sent + later, 0, connection=number) for number in range(2, 8 * ATTEMPTS_MAX)]
    with cutting(log_url, Cut("client", sent + 25), *endless) as proxy:
        result = cuts.told_over(proxy, told, Clock().patience(20))
        assert (result.acknowledged, result.code) == (0, "LEDGER_UNREACHABLE")
        assert bound <= len(proxy.made) <= bound + 2
    with closing(PostgresStore(parsed(log_url), write=True)) as writer:
        for parts in told:
            writer.append(parts)
        assert cuts.faults(writer, told, cuts.Told(2, "", [])) == []


def test_a_server_that_is_killed_again_and_again_loses_nothing_it_acknowledged(
    postgres_server: Postgres, log_url: str
) -> None:
    """W6, W1: every process of it, at moments drawn by a seed, under two writers; more in `campaign kills`."""
    tally = kills.campaign(postgres_server, log_url, seed=1, kills=5)
    assert tally.faults == [] and tally.commits > 30
