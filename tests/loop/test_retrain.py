from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from xlmr.loop.accuracy import Estimate
from xlmr.loop.retrain import (
    Facts,
    Limits,
    NoOrder,
    Order,
    Training,
    decide,
    order_detail,
    outcome_detail,
    trainings_of,
)
from xlmr.loop.suspicion import Suspicion

NOW = 1_709_596_800_000_000
DAY = 86_400_000_000
DRIFT = Suspicion(language="tr", since=1_709_510_400.0, signals=("unknown",), lost=12.4)
FACTS = Facts(
    now_us=NOW, live=3, labels={"tr": 80, "en": 40}, accuracy={}, suspicions=[DRIFT], trainings=[]
)


def training(days_ago: float, outcome: str = "shadow", hours: float = 1.0) -> Training:
    return Training(
        order=7,
        at_us=round(NOW - days_ago * DAY),
        parent=2,
        host="a",
        outcome=outcome,  # type: ignore[arg-type]
        hours=hours,
    )


def refused(facts: Facts, limits: Limits | None = None) -> tuple[str, ...]:
    found = decide(facts, limits or Limits())
    assert isinstance(found, NoOrder)
    return found.why


def test_drift_with_enough_labels_is_an_order_that_says_why() -> None:
    found = decide(FACTS, Limits())
    assert found == Order(
        3,
        NOW,
        {"tr": 80, "en": 40},
        (
            "tr drifted since 2024-03-04 00:00 UTC (unknown); "
            "some 12 more answers are wrong than before",
        ),
    )


def test_accuracy_that_is_proven_too_low_is_a_reason() -> None:
    facts = replace(FACTS, suspicions=[], accuracy={"de": Estimate(120, 0.71, 0.64, 0.78)})
    assert refused(facts)[0].startswith("nothing asks for it")
    found = decide(facts, Limits(least_accuracy=0.85))
    assert isinstance(found, Order)
    assert found.why == (
        "de: 71 % of the answers are right (64 % to 78 %, 120 labelled); 85 % are asked for",
    )
    assert refused(facts, Limits(least_accuracy=0.75))  # not proven
    few = replace(facts, accuracy={"de": Estimate(12, 0.2, 0.05, 0.5)})
    assert refused(few, Limits(least_accuracy=0.85))


def test_many_new_labels_are_a_reason_by_themselves() -> None:
    facts = replace(FACTS, suspicions=[], labels={"en": 1000})
    assert isinstance(decide(facts, Limits()), Order)
    assert refused(replace(facts, labels={"en": 999}))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(FACTS, live=0), "no version is live to start from"),
        (replace(FACTS, rolling="4"), "version 4 is being rolled out"),
        (replace(FACTS, labels={"tr": 30}), "30 labelled texts are new, 100 are asked for"),
        (replace(FACTS, labels={"en": 500}), "too few texts are labelled: tr 0; 20 are"),
        (replace(FACTS, trainings=[training(2.0)]), "less than 3 days ago; from 2024-03-06 00:00"),
        (replace(FACTS, trainings=[training(5.0, "")]), "order 7, given on a, has not ended"),
        (replace(FACTS, trainings=[training(n, "failed") for n in (1, 2, 5, 29)]), "4 trainings"),
        (replace(FACTS, trainings=[training(4, "refused", 48.0)]), "48.0 hours of computing"),
    ],
)
def test_reasons_not_to(facts: Facts, said: str) -> None:
    (why,) = refused(facts)
    assert said in why


def test_what_failed_waits_for_nobody_and_what_is_long_ago_costs_nothing() -> None:
    facts = replace(FACTS, trainings=[training(1, "failed"), training(1, "abandoned")])
    assert isinstance(decide(facts, Limits()), Order)
    old = replace(FACTS, trainings=[training(31, hours=100.0) for _ in range(9)])
    assert isinstance(decide(old, Limits()), Order)


@dataclass(frozen=True)
class Line:
    seq: int
    at_us: int
    action: str
    version: int = 0
    detail: str = ""


def test_orders_are_read_back_from_the_journal() -> None:
    order = Order(3, NOW, {"tr": 80}, ("why",))
    lines = [
        Line(1, NOW, "push", 3),
        Line(2, NOW, "retrain", 3, order_detail(order, host="a")),
        Line(3, NOW, "retrained", 4, outcome_detail(2, "shadow", hours=0.51, version=4)),
        Line(4, NOW + 5, "retrain", 4, order_detail(replace(order, at_us=NOW + 5), host="b")),
        Line(5, NOW + 6, "retrained", 4, outcome_detail(99, "failed", hours=0.0)),
    ]
    first, second = trainings_of(lines)
    assert first == Training(order=2, at_us=NOW, parent=3, host="a", outcome="shadow", hours=0.51)
    assert second == Training(order=4, at_us=NOW + 5, parent=4, host="b")


def test_labels_that_say_nothing_to_learn_are_told_where_there_are_too_few() -> None:
    facts = replace(FACTS, labels={"tr": 30}, left_out="7 labels cannot be learned from")
    assert refused(facts)[-1] == "7 labels cannot be learned from"
    assert isinstance(decide(replace(FACTS, left_out="7 labels"), Limits()), Order)
