"""What is told to those who look back: answers that callers got, by who gave them."""

from __future__ import annotations

import asyncio
from typing import Any

from xlmr.registry.rollout.assignment import Ensemble, Shadow, Weighted


class Observer:
    """Keeps the versions it was told of."""

    def __init__(self) -> None:
        self.versions: list[str] = []

    def tell(self, life: Any, seconds: float) -> None:
        self.versions.append(life.answered.model.version)


def observed(house: Any, route: Any, counting: Any) -> list[str]:
    observer = house.plane.recorder._observer = Observer()

    async def story() -> None:
        house.plane.routes.set("router", route, counting())
        for _ in range(3):
            await house.ask("hello world")
        await house.shadows()

    asyncio.run(story())
    return observer.versions


def test_what_a_version_read_in_the_shadow_is_not_told(planes_of, counting):
    house = planes_of("1", "2")
    assert observed(house, Shadow("1", "2", 10_000, "s"), counting) == ["1"] * 3
    assert house.counted().paired().compared == 3  # they were read


def test_a_split_is_told_by_who_answered(planes_of, counting):
    assert observed(planes_of("1", "2"), Weighted({"2": 1.0}, "s"), counting) == ["2"] * 3


def test_an_ensemble_is_told_as_one(planes_of, counting):
    house = planes_of("1", "2")
    assert observed(house, Ensemble({"1": 0.5, "2": 0.5}), counting) == ["1+2"] * 3
