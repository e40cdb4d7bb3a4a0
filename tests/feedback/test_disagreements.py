"""What versions in the shadow answered otherwise: kept, and gone with their records."""

from __future__ import annotations

from tests.feedback.parts import MIDNIGHT, record

from xlmr.feedback.disagreements import Disagreement, add_disagreements, disagreements_among
from xlmr.feedback.policy import Policy
from xlmr.feedback.store import Store
from xlmr.feedback.upkeep import expire

DAY = 86_400


def other(number: int, version: str = "4", at: float = MIDNIGHT) -> Disagreement:
    id = f"p{number:06}"
    return Disagreement(prediction=id, version=version, label="other", at_us=round(at * 1e6))


def kept(store: Store) -> set[tuple[str, str]]:
    found = disagreements_among(store, [f"p{n:06}" for n in range(10)])
    return {(id, each.version) for id, each in found.items()}


def test_the_last_version_that_read_a_text_is_told(database: str) -> None:
    store = Store(database)
    add_disagreements(store, [])
    add_disagreements(store, [other(1), other(1, "5", MIDNIGHT + 9), other(2)])
    # A server that does not know whether they arrived sends them again.
    add_disagreements(store, [other(1), other(3)])
    assert kept(store) == {("p000001", "5"), ("p000002", "4"), ("p000003", "4")}
    assert disagreements_among(store, ["p000002", "none"]) == {"p000002": other(2)}
    store.close()


def test_what_no_database_stores_costs_nothing(database: str) -> None:
    store = Store(database)
    odd = Disagreement(prediction="p000001", version="4", label="a\x00\ud800", at_us=1)
    add_disagreements(store, [odd])
    assert disagreements_among(store, ["p000001"])["p000001"].label == "a\ufffd\ufffd"
    store.close()


def test_they_go_with_whose_text_it_was(database: str) -> None:
    store = Store(database)
    store.add([record(1, subject="s"), record(2)])
    add_disagreements(store, [other(1), other(2)])
    store.erase("s")
    assert kept(store) == {("p000002", "4")}
    store.close()


def test_they_go_with_their_records_or_after_the_longest_class(database: str) -> None:
    store = Store(database)
    days = max(each.days for each in Policy().classes.values())
    store.add([record(1), record(2, at=MIDNIGHT + 2 * DAY)])
    add_disagreements(store, [other(1), other(2), other(3), other(4, at=MIDNIGHT + 2 * DAY)])
    expire(store, Policy(), round((MIDNIGHT + DAY + days * DAY) * 1e6))
    assert kept(store) == {("p000002", "4"), ("p000004", "4")}
    store.close()
