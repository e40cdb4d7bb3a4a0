from __future__ import annotations

from tests.feedback.parts import MIDNIGHT, record

from xlmr.feedback.labels import Feedback
from xlmr.feedback.selected import (
    Checked,
    Selected,
    add_selected,
    checked,
    population,
    selected_among,
)
from xlmr.feedback.store import Store


def asked(number: int, inclusion: float, at_us: int = 5) -> Selected:
    return Selected(prediction=f"p{number:06}", inclusion=inclusion, at_us=at_us)


def annotated(number: int, label: str, who: str = "") -> Feedback:
    return Feedback(prediction=f"p{number:06}", label=label, who=who, source="annotator")


def test_the_greater_probability_stays(database: str) -> None:
    store = Store(database)
    store.add([record(n) for n in range(4)])
    add_selected(store, [asked(0, 0.1), asked(1, 0.5), asked(2, 0.0), asked(3, 0.0)])
    add_selected(store, [asked(0, 0.3), asked(1, 0.2), asked(2, 0.2)])
    add_selected(store, [])
    store.add_feedback([annotated(n, "refund") for n in range(4)])
    found = [each.inclusion for each in checked(store, model="router")]
    assert found == [0.3, 0.5, 0.2]
    store.close()


def test_annotators_are_asked_and_most_of_them_are_right(database: str) -> None:
    store = Store(database)
    store.add([record(1), record(2, language="en", version="4"), record(3, model="other")])
    add_selected(store, [asked(n, 0.5) for n in (1, 2, 3)])
    store.add_feedback([annotated(1, "other", "a"), annotated(1, "other", "b")])
    store.add_feedback([annotated(1, "refund", "c"), annotated(2, "refund")])
    user = Feedback(prediction="p000002", label="other", who="u")
    store.add_feedback([user, annotated(3, "refund")])
    first = Checked(version="3", language="de", predicted="refund", label="other", inclusion=0.5)
    second = Checked(version="4", language="en", predicted="refund", label="refund", inclusion=0.5)
    assert list(checked(store, model="router")) == [first, second]
    assert list(checked(store, model="router", version="4")) == [second]
    until = (MIDNIGHT + 2) * 10**6
    assert list(checked(store, model="router", until_us=until)) == [first]
    assert list(checked(store, model="router", since_us=until)) == [second]
    assert list(checked(store, model="router", known_us=1)) == []
    store.close()


def test_many_are_read_page_by_page(database: str) -> None:
    store = Store(database)
    store.add([record(n, at=MIDNIGHT + n // 3) for n in range(1200)])
    add_selected(store, [asked(n, 0.5) for n in range(1200)])
    store.add_feedback([annotated(n, "refund") for n in range(0, 1200, 2)])
    assert sum(1 for _ in checked(store, model="router")) == 600
    ids = [f"p{n:06}" for n in range(1100, 1300)] * 6
    assert len(selected_among(store, ids)) == 100
    store.close()


def test_population(database: str) -> None:
    store = Store(database)
    store.add([record(1, text="kept"), record(2), record(3, version="4"), record(4, model="other")])
    store.add([record(5, label="")])
    whole = {"since_us": 0, "until_us": 1 << 60}
    assert population(store, model="router", version="", texts=False, **whole) == 3
    assert population(store, model="router", version="", texts=True, **whole) == 1
    assert population(store, model="router", version="4", texts=False, **whole) == 1
    store.close()
