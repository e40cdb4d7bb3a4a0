"""Counts of several servers add up to what was counted, however often each of them repeats itself.

In the catalogue's database, SQLite and PostgreSQL, and in Redis.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.postgres import postgres_server
from tests.services import RedisServer, free_port, redis_server

from xlmr.errors import RegistryUnavailableError, SettingsError
from xlmr.registry.catalogue import Catalogue
from xlmr.registry.rollout.burn import WINDOWS, Window
from xlmr.registry.rollout.counts import CountStore, SqlCounts
from xlmr.registry.rollout.counts_redis import RedisCounts
from xlmr.registry.rollout.evidence import Counts, Evidence, Pairs

_salts = (f"salt-{number}" for number in itertools.count())
ONE = Evidence(
    arms={
        "live": {"de": Counts(units=9, events={"5xx": 1}, labels={"a": 3, "b": 6})},
        "candidate": {"de": Counts(units=2), "sw": Counts(units=1, labels={'"[é]': 1})},
    },
    pairs={"de": Pairs(compared=2, disagreed=1, labelled=1, live_only=1)},
)
# Of what was counted later: an event and a label of a unit that was counted before.
LATE = Evidence(arms={"candidate": {"sw": Counts(events={"negative_feedback": 1})}})


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module", params=["sqlite", "postgres", "redis"])
def reopen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], CountStore]]:
    """Opens the same place again, as another server would."""
    with contextlib.ExitStack() as stack:
        if request.param == "redis":
            url = request.getfixturevalue("redis").url
            yield lambda: stack.enter_context(contextlib.closing(RedisCounts(url)))
            return
        place = str(tmp_path_factory.mktemp("counts") / "c.db")
        if request.param == "postgres":
            place = stack.enter_context(postgres_server()).url
        yield lambda: SqlCounts(stack.enter_context(contextlib.closing(Catalogue(place))))


@pytest.fixture(scope="module")
def store(reopen: Callable[[], CountStore]) -> CountStore:
    return reopen()


def add(
    store: CountStore,
    salt: str,
    sequence: int,
    evidence: Evidence = ONE,
    *,
    server: str = "a",
    epoch: int = 0,
    minutes: dict[int, Window] | None = None,
) -> bool:
    return store.add(
        salt, epoch, server=server, sequence=sequence, evidence=evidence, minutes=minutes or {}
    )


def test_what_was_added_is_read_by_others(
    store: CountStore, reopen: Callable[[], CountStore]
) -> None:
    salt = next(_salts)
    assert store.read(salt, 0) == Evidence()
    assert add(store, salt, 1)
    assert add(store, salt, 1, server="b")
    assert add(store, salt, 2, LATE)
    assert reopen().read(salt, 0) == ONE + ONE + LATE
    assert store.read(salt, 1) == Evidence()
    assert store.read(next(_salts), 0) == Evidence()


def test_an_addition_that_is_repeated_counts_once(store: CountStore) -> None:
    salt, minutes = next(_salts), {100: Window(3, 1)}
    assert add(store, salt, 1, minutes=minutes)
    assert not add(store, salt, 1, minutes=minutes)
    assert add(store, salt, 2, minutes=minutes)
    assert not add(store, salt, 1, minutes=minutes)
    assert not add(store, salt, 2, minutes=minutes)
    assert store.read(salt, 0) == ONE + ONE
    assert store.windows(salt, 0, 6000.0)[300] == Window(6, 2)
    # Another epoch has numbers of its own.
    assert add(store, salt, 1, epoch=1)


def counts() -> st.SearchStrategy[Counts]:
    labels = st.dictionaries(st.sampled_from("ab"), st.integers(0, 4), max_size=2)
    events = st.dictionaries(st.sampled_from(("5xx", "abstention")), st.integers(0, 9), max_size=2)
    return st.builds(Counts, units=st.integers(0, 9), events=events, labels=labels)


def evidences() -> st.SearchStrategy[Evidence]:
    languages = st.dictionaries(st.sampled_from(("de", "sw")), counts(), max_size=2)
    arms = st.dictionaries(st.sampled_from(("live", "candidate")), languages, max_size=2)
    pairs = st.builds(Pairs, compared=st.integers(5, 9), disagreed=st.integers(0, 5))
    return st.builds(Evidence, arms=arms, pairs=st.dictionaries(st.just("de"), pairs, max_size=1))


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    parts=st.lists(st.tuples(evidences(), st.sampled_from("abc"), st.integers(1, 3)), max_size=8)
)
def test_any_split_over_servers_and_retries_is_the_same_sum(
    store: CountStore, parts: list[tuple[Evidence, str, int]]
) -> None:
    salt = next(_salts)
    numbers: dict[str, int] = {}
    for evidence, server, times in parts:
        numbers[server] = numbers.get(server, 0) + 1
        for time in range(times):
            assert add(store, salt, numbers[server], evidence, server=server) == (time == 0)
    assert store.read(salt, 0) == sum((part[0] for part in parts), Evidence())


def test_windows_reach_back_so_many_minutes(store: CountStore) -> None:
    salt = next(_salts)
    for sequence, minute in enumerate((1000, 996, 995, 941, 940, 641, 640), start=1):
        add(store, salt, sequence, LATE, minutes={minute: Window(10, 1)})
    add(store, salt, 1, LATE, server="b", minutes={1000: Window(5, 5), 1001: Window(1, 0)})
    windows = store.windows(salt, 0, 1000 * 60.0 + 59.0)
    assert set(windows) == set(WINDOWS)
    assert windows[300] == Window(26, 7)
    assert windows[3600] == Window(46, 9)
    assert windows[6 * 3600] == Window(66, 11)
    # They move on with the time.
    assert store.windows(salt, 0, 1004 * 60.0)[300] == Window(16, 6)
    assert store.windows(salt, 0, 1000 * 60.0)[300] == Window(26, 7)
    assert store.windows(salt, 0, 9e6)[6 * 3600] == Window(0, 0)


def test_epochs_that_are_over_are_forgotten(store: CountStore) -> None:
    salt, other = next(_salts), next(_salts)
    for epoch in range(3):
        add(store, salt, 1, epoch=epoch, minutes={5: Window(1, 0)})
    add(store, other, 1)
    store.forget(salt, before=2)
    assert [store.read(salt, epoch) for epoch in range(3)] == [Evidence(), Evidence(), ONE]
    assert store.windows(salt, 1, 300.0)[300] == Window(0, 0)
    assert store.windows(salt, 2, 300.0)[300] == Window(1, 0)
    assert store.read(other, 0) == ONE


def test_several_who_add_at_once(reopen: Callable[[], CountStore]) -> None:
    salt, faults = next(_salts), []

    def work(server: str) -> None:
        mine = reopen()
        try:
            for sequence in range(1, 6):
                add(mine, salt, sequence, server=server, minutes={7: Window(2, 1)})
        except Exception as fault:  # noqa: BLE001 - told below, in the thread that asserts
            faults.append(fault)

    # Two of one name are one server that somebody started twice: each number counts once.
    workers = [threading.Thread(target=work, args=(server,)) for server in "aabcd"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert faults == []
    found = reopen().read(salt, 0)
    assert found.counts("live").units == 9 * 5 * 4
    assert reopen().windows(salt, 0, 7 * 60.0)[300] == Window(40, 20)


def test_a_database_that_is_away_says_so_and_counts_once_when_it_is_back() -> None:
    with postgres_server() as server:
        catalogue = Catalogue(server.url)
        store = SqlCounts(catalogue)
        add(store, "s", 1)
        server.stop()
        with pytest.raises(RegistryUnavailableError):
            add(store, "s", 2)
        with pytest.raises(RegistryUnavailableError):
            store.read("s", 0)
        server.start()
        assert not add(store, "s", 1)
        assert add(store, "s", 2)
        assert store.read("s", 0) == ONE + ONE
        catalogue.close()


def test_a_redis_that_is_away_or_frozen_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlmr.registry.rollout.counts_redis._TIMEOUT_S", 0.2)
    with redis_server(tmp_path) as server:
        store = RedisCounts(server.url)
        add(store, "s", 1)
        server.freeze()
        with pytest.raises(RegistryUnavailableError, match="does not answer"):
            add(store, "s", 2)
        server.thaw()
        # It may have arrived, late; it counts once.
        add(store, "s", 2)
        assert store.read("s", 0) == ONE + ONE
        server.kill()
        with pytest.raises(RegistryUnavailableError):
            store.windows("s", 0, 1.0)
        server.start()
        assert store.read("s", 0) == Evidence()
        assert add(store, "s", 3)
        store.close()


def test_a_url_that_is_none_is_refused_without_being_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        RedisCounts("http://user:hush@host")
    assert "hush" not in str(caught.value)
    with pytest.raises(RegistryUnavailableError) as away:
        RedisCounts(f"redis://:hush@127.0.0.1:{free_port()}/0").read("s", 0)
    assert "hush" not in str(away.value)
