"""Several versions that answer as one."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest

from xlmr.errors import EngineError, InputError, SettingsError, TaskError
from xlmr.model.heads.classify import entropy
from xlmr.registry.rollout.assignment import Ensemble
from xlmr.serving.dataplane import ClassifyOptions
from xlmr.serving.routing.ensemble import averaged
from xlmr.types import Accounting, Classification, LabelScore, Quota

BOTH = Ensemble({"1": 1.0, "2": 3.0})
TEXTS = ("hello", "世界 привет")


def said(scores: dict[str, float], **fields: Any) -> Classification:
    ranked = sorted(scores, key=lambda label: -scores[label])
    labels = tuple(LabelScore(label, scores[label]) for label in ranked)
    return Classification(labels, **({"accounting": Accounting(3, 3, False, 1, 0)} | fields))


def fail(batch: Any) -> None:
    raise RuntimeError("broken")


def test_probabilities_are_averaged_by_weight(planes_of):
    async def story() -> None:
        house = planes_of("1", "2")
        house.plane.routes.set("router", BOTH)
        alone = {v: await house.ask(*TEXTS, model=f"router@{v}") for v in ("1", "2")}
        for top in (None, 1):
            answered = await house.ask(*TEXTS, options=ClassifyOptions(top=top))
            for place, outcome in enumerate(answered.outcomes):
                scores: dict[str, float] = {}
                for version, weight in (("1", 0.25), ("2", 0.75)):
                    for one in alone[version].outcomes[place].answer.labels:
                        scores[one.label] = scores.get(one.label, 0.0) + weight * one.score
                expected = sorted(scores.items(), key=lambda pair: -pair[1])[:top]
                got = [(one.label, one.score) for one in outcome.answer.labels]
                assert [label for label, _ in got] == [label for label, _ in expected]
                assert np.allclose([score for _, score in got], [score for _, score in expected])
                nats = entropy(np.array(list(scores.values())), exclusive=True)
                assert outcome.answer.entropy == pytest.approx(nats)
        assert answered.model.version == house.log.records[-1].version == "1+2"
        digests = {one.model.digest for one in alone.values()}
        assert len(answered.model.digest) == 64
        assert answered.model.digest not in digests
        assert answered.tokens == sum(one.tokens for one in alone.values())
        assert house.metrics.value("xlmr_requests_total", version="1+2", code="ok") == 2
        assert all(state.requests == 0 for state in house.plane.pool.states())

    asyncio.run(story())


def test_all_compute_at_the_same_time_and_are_charged(planes_of):
    async def story() -> None:
        house = planes_of("1", "2", quota=Quota(tokens_per_s=0.001, token_burst=30.0))
        house.plane.routes.set("router", BOTH)
        for willed in house.willed.values():
            willed.gate.clear()
        asked = asyncio.create_task(house.ask("hello world"))
        for willed in house.willed.values():
            assert await asyncio.to_thread(willed.entered.acquire, timeout=10)
        for willed in house.willed.values():
            willed.gate.set()
        answered = await asked
        assert answered.tokens == 8
        assert answered.timing.infer_s <= answered.timing.total_s

    asyncio.run(story())


def test_who_fails_or_is_not_loaded_is_left_out(planes_of):
    async def story() -> None:
        house = planes_of("1", "2")
        alone = await house.ask("hello", model="router@1")
        house.plane.routes.set("router", Ensemble({"1": 1.0, "2": 1.0, "7": 1.0}))
        answered = await house.ask("hello")
        assert answered.model.version == "1+2"
        assert house.fallbacks("ensemble") == 1
        house.willed["2"].before = fail
        answered = await house.ask("hello")
        assert answered.model == alone.model
        got = {one.label: one.score for one in answered.outcomes[0].answer.labels}
        assert got == {one.label: one.score for one in alone.outcomes[0].answer.labels}
        assert house.fallbacks("ensemble") == 3
        house.willed["1"].before = fail
        with pytest.raises(EngineError):
            await house.ask("hello")
        house.plane.routes.set("router", Ensemble({"7": 1.0, "8": 1.0}))
        house.willed["1"].before = lambda batch: None
        assert (await house.ask("hello")).model.version == "1"
        assert all(state.requests == 0 for state in house.plane.pool.states())

    asyncio.run(story())


def test_each_version_has_its_own_answers_in_the_cache(planes_of):
    async def story() -> None:
        house = planes_of("1", "2", cached=True)
        house.plane.routes.set("router", BOTH)
        first = await house.ask("hello")
        again = await house.ask("hello")
        assert first.outcomes == again.outcomes
        assert [house.willed[v].runs for v in ("1", "2")] == [1, 1]
        await house.ask("hello", model="router@2")
        assert house.willed["2"].runs == 1

    asyncio.run(story())


def test_a_text_that_is_refused_is_refused_alone(planes_of):
    async def story() -> None:
        house = planes_of("1", "2")
        house.plane.routes.set("router", BOTH)
        answered = await house.ask("hello", "\ud800")
        good, bad = answered.outcomes
        assert good.answer is not None
        assert isinstance(bad.error, InputError)
        assert bad.error.path == "$.input[1]"
        with pytest.raises(InputError):
            await house.ask("\ud800")

    asyncio.run(story())


def test_what_cannot_be_averaged_is_refused(planes_of):
    async def story() -> None:
        house = planes_of("1", "other", "vectors")
        for version, words in (("other", "1 and other have other labels"), ("vectors", "classify")):
            with pytest.raises(SettingsError, match=words):
                house.plane.routes.set("router", Ensemble({"1": 1.0, version: 1.0}))
        assert (await house.ask("hello")).model.version == "1"
        house.plane.routes.set("router", Ensemble({"1": 1.0, "7": 1.0}))
        with pytest.raises(TaskError, match="raw scores"):
            await house.ask("hello", options=ClassifyOptions(raw_scores=True))

    asyncio.run(story())


def test_labels_that_differ_are_never_averaged() -> None:
    with pytest.raises(TaskError):
        averaged([said({"a": 1.0}), said({"b": 1.0})], [1.0, 1.0], top=None)


def test_half_of_the_weight_decides_what_each_version_decides_alone() -> None:
    def both(weights: list[float], *fields: dict[str, Any]) -> Classification:
        scores = ({"a": 0.9, "b": 0.2}, {"b": 0.8, "a": 0.1})
        answers = [said(s, **f) for s, f in zip(scores, fields, strict=True)]
        return averaged(answers, weights, top=None)

    one, other = {"abstained": True, "chosen": ("a",)}, {"abstained": False, "chosen": ("b",)}
    equal = both([1.0, 1.0], one, other)
    assert (equal.abstained, equal.chosen) == (True, ("a", "b"))
    light = both([1.0, 2.0], one, other)
    assert (light.abstained, light.chosen) == (False, ("b",))
    assert light.label == "b"
    assert both([1.0, 1.0], {}, {}).abstained is None
    assert both([1.0, 1.0], {}, {}).entropy is None
    sure = both([3.0, 1.0], {"entropy": 0.1, "chosen": ()}, {"entropy": 0.2, "chosen": ()})
    nats = sum(-p * math.log(p) - (1 - p) * math.log(1 - p) for p in (0.7, 0.35))
    assert sure.entropy == pytest.approx(nats)


def test_values_are_averaged_as_values() -> None:
    answers = [said({"stars": 4.0}), said({"stars": 1.0})]
    mean = averaged(answers, [2.0, 1.0], top=None)
    assert (mean.score, mean.entropy) == (3.0, None)
    assert mean.accounting == Accounting(6, 3, False, 1, 0)
