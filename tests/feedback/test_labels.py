from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.feedback.parts import MIDNIGHT, record

from xlmr.errors import InputError
from xlmr.feedback.examples import examples_at
from xlmr.feedback.labels import CONFLICTS, SOURCES, Feedback, Settled, check, settle
from xlmr.feedback.store import Store


def said(label: str, who: str, source: str = "user", at: int = 1) -> Feedback:
    return Feedback(
        prediction="p",
        label=label,
        who=who,
        source=source,
        said_us=at,
        known_us=at,  # type: ignore[arg-type]
    )


DISPUTE = [
    said("a", "ann", "annotator", 1),
    said("b", "bob", "user", 2),
    said("b", "cid", "user", 3),
    said("c", "system", "outcome", 4),
]


@pytest.mark.parametrize(
    ("conflict", "expected"),
    [
        ("last", Settled("c", "outcome", 1, True)),
        ("priority", Settled("a", "annotator", 1, True)),
        ("majority", Settled("b", "user", 2, True)),
    ],
)
def test_policies(conflict, expected: Settled) -> None:
    assert settle(DISPUTE, conflict) == expected


def test_only_the_last_word_of_each_counts() -> None:
    changed = [said("a", "ann", at=1), said("b", "ann", at=2), said("a", "bob", at=3)]
    assert settle(changed, "last") == Settled("a", "user", 1, True)
    assert settle([*changed, said("a", "ann", at=9)], "majority") == Settled("a", "user", 2, False)
    anonymous = [said("b", "", at=1), said("b", "", at=2), said("a", "ann", at=3)]
    assert settle(anonymous, "majority") == Settled("b", "user", 2, True)
    assert settle([], "last") is None


@given(
    st.lists(
        st.builds(
            said,
            st.sampled_from("ab"),
            st.sampled_from(["", "x", "y"]),
            st.sampled_from(SOURCES),
            st.integers(1, 5),
        ),
        min_size=1,
    ),
    st.sampled_from(CONFLICTS),
    st.randoms(),
)
def test_neither_order_nor_repetition_matters(words, conflict, random) -> None:
    shuffled = words * 2 if all(word.who for word in words) else list(words)
    random.shuffle(shuffled)
    assert settle(shuffled, conflict) == settle(words, conflict)


@pytest.mark.parametrize(
    ("odd", "path"),
    [
        ({"prediction": ""}, "prediction"),
        ({"label": "x" * 1001}, "label"),
        ({"source": "robot"}, "source"),
        ({"said_us": -1}, "at"),
    ],
)
def test_what_cannot_be_is_refused(odd, path: str) -> None:
    with pytest.raises(InputError, match=path):
        check(Feedback(**{"prediction": "p", "label": "a"} | odd))


def test_training_rows_are_what_was_known_then(tmp_path: Path) -> None:
    clock = [0]
    store = Store(str(tmp_path / "f.db"), clock=lambda: clock[0])
    day = 86_400_000_000
    start = MIDNIGHT * 1_000_000
    store.add([record(n, text=f"text {n}") for n in range(3)] + [record(3)])
    store.add([record(9, at=MIDNIGHT + 10 * 86_400, text="later")])

    def hear(day_number: int, prediction: int, label: str, **more) -> None:
        clock[0] = start + day_number * day
        store.add_feedback([Feedback(prediction=f"p{prediction:06}", label=label, who="u", **more)])

    hear(1, 0, "refund")
    hear(1, 3, "refund")  # its text was not kept
    hear(2, 0, "other")  # corrects
    # Said long ago, but nobody knew it before the third day.
    hear(3, 1, "other", said_us=start)

    def rows(day_number: float) -> dict[str, str]:
        return {e.id: e.label for e in examples_at(store, start + round(day_number * day))}

    assert rows(0.5) == {}
    assert rows(1.5) == {"p000000": "refund"}
    assert rows(2.5) == {"p000000": "other"}
    assert rows(3.5) == {"p000000": "other", "p000001": "other"}
    hear(11, 9, "refund")
    hear(11, 0, "refund")
    assert rows(3.5) == {"p000000": "other", "p000001": "other"}
    assert rows(11) == {"p000000": "refund", "p000001": "other", "p000009": "refund"}
    (first,) = examples_at(store, start + day)
    assert (first.text, first.predicted, first.source, first.language) == (
        "text 0",
        "refund",
        "user",
        "de",
    )
    store.close()
