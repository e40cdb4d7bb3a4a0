from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sql
from tests.feedback.parts import MIDNIGHT, record

from xlmr.errors import FeedbackUnavailableError, InputError, SettingsError
from xlmr.feedback.labels import Feedback
from xlmr.feedback.record import Hasher, Record
from xlmr.feedback.store import Store
from xlmr.feedback.tables import SCHEMA
from xlmr.feedback.writer import Writer

REPOSITORY = Path(__file__).resolve().parents[2]


def run(module: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"tests.feedback.{module}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def test_records_come_back_as_they_were(database: str) -> None:
    store = Store(database)
    records = [
        record(1),
        record(
            2, probabilities={}, confidence=None, abstained=True, text="<EMAIL> ü 例", subject="s"
        ),
    ]
    store.add(records[::-1])
    store.add([record(1, label="changed")])
    store.add([])
    assert list(store.records()) == records
    store.close()
    again = Store(database)
    assert list(again.records()) == records
    again.close()


def test_records_are_read_page_by_page_and_by_time(database: str) -> None:
    store = Store(database)
    store.add([record(n, at=MIDNIGHT + n // 3) for n in range(2500)])
    found = [r.id for r in store.records()]
    assert found == [f"p{n:06}" for n in range(2500)]
    since, until = (MIDNIGHT + 10) * 1_000_000, (MIDNIGHT + 20) * 1_000_000
    assert [r.id for r in store.records(since_us=since, until_us=until)] == found[30:60]
    store.close()


def test_odd_values_cost_nobody_their_record(database: str) -> None:
    store = Store(database)
    long = record(3, language="x" * 300)
    many = {f"l{n:03}": 1 / (n + 1) for n in range(100)}
    odd = [
        record(1, label="a\x00b", text="half \ud83d pair", confidence=float("nan")),
        record(2, probabilities=many | {"bad": float("inf")}, latency_ms=float("nan")),
    ]
    store.add([*odd, long])
    first, second, third = store.records()
    assert third.language == "x" * 40
    assert (first.label, first.text, first.confidence) == ("a\ufffdb", "half \ufffd pair", None)
    assert list(second.probabilities)[:2] == ["l000", "l001"]
    assert len(second.probabilities) <= 20
    assert second.latency_ms == 0.0
    store.close()


def test_what_was_acknowledged_survives_kill_9(database: str) -> None:
    child = run("dying", database)
    assert child.stdout is not None
    reader = Store(database)
    seen = 0
    for _ in range(5):
        said = int(child.stdout.readline())
        seen = len(list(reader.records()))  # while the other writes
        assert seen >= said
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate(timeout=60)
    acknowledged = int(rest.split()[-1]) if rest.split() else said
    kept = [r.id for r in reader.records()]
    assert kept[:acknowledged] == [f"p{n:06}" for n in range(acknowledged)]
    assert len(kept) % 20 == 0  # each batch whole or not at all
    reader.add([record(10**6 - 1)])
    reader.close()


def test_a_full_disk_costs_records_and_nothing_else(tmp_path: Path) -> None:
    child = run("filling", str(tmp_path / "feedback.db"))
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 0
    told = json.loads(said)
    assert told["dropped"] > 1000
    assert told["after"] == 0
    assert told["kept"][0] == "p000000"
    assert told["kept"][-1] == "p009999"


def test_a_newer_programs_store_is_left_alone(database: str) -> None:
    store = Store(database)
    with store.writing() as connection:
        connection.execute(sql.update(SCHEMA).values(version=99))
    store.close()
    with pytest.raises(SettingsError, match=r"version 99.*knows 1"):
        Store(database)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("mysql://h/d", SettingsError),
        ("nonsense://", SettingsError),
        ("postgresql://xlmr@127.0.0.1:1/none", FeedbackUnavailableError),
        ("/proc/none/feedback.db", FeedbackUnavailableError),
    ],
)
def test_a_place_that_cannot_be_says_so(url: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        Store(url)


class Stuck:
    """A store that hangs until it is let go, then fails or not."""

    def __init__(self, *, fails: bool = False) -> None:
        self.go = threading.Event()
        self.fails = fails
        self.kept: list[str] = []

    def add(self, records: list[Record]) -> None:
        self.go.wait(60)
        if self.fails:
            raise FeedbackUnavailableError("away")
        self.kept += [r.id for r in records]


def writer_to(sink: Stuck, keep: Callable[[Record], Record], most: int) -> tuple[Writer, list[int]]:
    dropped: list[int] = []
    writer = Writer(
        sink,
        keep,
        on_drop=lambda records, reason: dropped.append(records),
        most_waiting=most,
        gathering_s=0.0,
    )
    return writer, dropped


def test_a_store_that_hangs_costs_records_and_no_time() -> None:
    sink = Stuck()
    writer, dropped = writer_to(sink, lambda r: r, 100)
    for number in range(1000):
        writer.put(record(number))
    assert 800 <= sum(dropped) <= 900  # what the thread took before it hung had made room
    sink.go.set()
    writer.close(60)
    assert len(sink.kept) == 1000 - sum(dropped)


def test_a_store_that_is_away_is_counted() -> None:
    sink = Stuck(fails=True)
    sink.go.set()
    writer, dropped = writer_to(sink, lambda r: r, 100)
    writer.put(record(1))
    writer.flush(60)
    assert sum(dropped) == 1
    sink.fails = False
    writer.put(record(2))
    writer.close(60)
    writer.close()
    assert sink.kept == ["p000002"]


def say(**said: object) -> Feedback:
    values = {"prediction": "p000001", "label": "refund", "who": "ann"} | said
    return Feedback(**values)  # type: ignore[arg-type]


def test_repeated_feedback_is_kept_once(database: str) -> None:
    now = iter(range(1_000_000, 2_000_000))
    store = Store(database, clock=lambda: next(now))
    assert store.add_feedback([say(said_us=5), say(said_us=5)]) == 1
    assert store.add_feedback([say(said_us=5)]) == 0
    assert store.add_feedback([say(said_us=6, label="other")]) == 1
    # Without a time: only what is not their last word anyway.
    assert store.add_feedback([say(label="other")]) == 0
    assert store.add_feedback([say()]) == 1
    assert store.add_feedback([say()]) == 0
    assert store.add_feedback([say(who="bob"), say(source="annotator")]) == 2
    assert store.add_feedback([say(label="\x00"), say(label="\x00")]) == 1
    assert len(store.feedback(["p000001", "none"])["p000001"]) == 6
    with pytest.raises(InputError, match="source"):
        store.add_feedback([say(said_us=7), say(source="robot")])
    assert len(store.feedback(["p000001"])["p000001"]) == 6  # all or none
    store.close()


def test_an_erased_person_leaves_nothing(database: str, tmp_path: Path) -> None:
    hasher = Hasher(b"k" * 16)
    person, other = hasher.person("customer-17"), hasher.person("customer-18")
    store = Store(database)
    mark = "quokka" * 300  # long enough for pages of its own
    store.add(
        [record(n, subject=person if n % 2 else other, text=f"{mark} {n}") for n in range(40)]
    )
    store.add_feedback([say(label="wombat"), say(prediction="p000002", who=person, label="wombat")])
    store.add_feedback([say(prediction="p000002", label="echidna")])
    done = store.erase(person)
    assert (done.records, done.feedback, done.left, done.scrubbed) == (20, 2, 0, True)
    assert {r.subject for r in store.records()} == {other}
    assert "p000001" not in store.feedback(["p000001"])
    again = store.erase(person)
    assert (again.records, again.feedback) == (0, 0)
    assert [(e["records"], e["feedback"]) for e in store.erasures()] == [(20, 2), (0, 0)]
    assert person not in json.dumps(store.erasures())
    store.erase(other)
    with pytest.raises(SettingsError):
        store.erase("")
    store.close()
    for path in tmp_path.glob("feedback.db*"):
        content = path.read_bytes()
        for trace in (b"quokka", b"wombat", b"echidna", person.encode(), other.encode()):
            assert trace not in content, (path.name, trace)


def test_hashes_need_their_key() -> None:
    one, two = Hasher(b"a" * 32), Hasher(b"b" * 32)
    assert one.fingerprint("Hallo") == one.fingerprint("Hallo") != two.fingerprint("Hallo")
    assert one.person("x")[:16] != one.fingerprint("x")
    assert one.fingerprint("half \ud83d")
    with pytest.raises(SettingsError, match="3 bytes"):
        Hasher(b"abc")
