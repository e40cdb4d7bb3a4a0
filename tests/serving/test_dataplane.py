"""The life of a request without any door."""

from __future__ import annotations

import asyncio
import threading

import pytest

from xlmr.errors import InputError, UnavailableError
from xlmr.serving.admission import Limits
from xlmr.serving.dataplane import ClassifyOptions, Dataplane, EmbedOptions, Question
from xlmr.serving.pool import open_pool, warm_runtime
from xlmr.settings import Settings
from xlmr.telemetry.metrics import Metrics
from xlmr.text.language import identify_many


class Kept:
    wants_fingerprints = False

    def __init__(self) -> None:
        self.records = []

    def takes(self, code) -> bool:
        return True

    def write(self, record) -> None:
        self.records.append(record)


@pytest.fixture
def plane_of(models, tmp_path, gated_class):
    made = []

    def make(identify=identify_many, **limits) -> tuple[Dataplane, Kept]:
        settings = Settings(runtime="reference", cache_dir=tmp_path)
        metrics, log, runtimes = Metrics(), Kept(), []

        def gated(bundle, settings):
            runtimes.append(gated_class(warm_runtime(bundle, settings)))
            return runtimes[-1]

        pool = open_pool([str(models / "router")], settings, metrics, runtime_of=gated)
        for runtime in runtimes:
            runtime.forget()
        limits = Limits(**({"max_items": 4, "max_chars": 5000} | limits))
        plane = Dataplane(pool, limits=limits, metrics=metrics, log=log, identify=identify)
        made.append(plane)
        return plane, log

    yield make
    for plane in made:
        plane.pool.models["router"].predictor.runtime.runtime.gate.set()
        plane.close()
        plane.pool.close()


def question(*items, **fields) -> Question:
    options = {"task": "classify", "options": ClassifyOptions()} | fields
    return Question(id="r1", items=items, **options)


def test_an_answer_is_counted_and_logged(plane_of):
    plane, log = plane_of()
    answered = asyncio.run(plane.answer(question("hello", "где посылка и где мои деньги")))
    assert [outcome.answer is not None for outcome in answered.outcomes] == [True, True]
    (record,) = log.records
    assert (record.request, record.model, record.code, record.items) == ("r1", "router", "ok", 2)
    assert record.tokens == answered.tokens > 0
    assert "ru" in record.languages
    where = {"task": "classify", "model": "router"}
    assert plane.metrics.value("xlmr_requests_total", **where, code="ok") == 1
    assert plane.metrics.value("xlmr_items_total", **where, language="ru", code="ok") == 1
    assert plane.metrics.value("xlmr_tokens_total", **where) == answered.tokens


def test_large_requests_leave_the_event_loop_free(plane_of):
    seen: list[str] = []

    def identify(texts):
        seen.append(threading.current_thread().name)
        return identify_many(texts)

    plane, _ = plane_of(identify)
    asyncio.run(plane.answer(question("hello")))
    asyncio.run(plane.answer(question("hello " * 500)))
    assert seen[0] == "MainThread"
    assert seen[1].startswith("xlmr-text")


@pytest.mark.parametrize(
    ("items", "path", "fields"),
    [
        ((), "$.texts", {}),
        (("a",) * 5, "$.texts", {}),
        (("a" * 5001,), "$.texts[0]", {}),
        (("\ud800",), "$.texts", {"listed": False}),
        (("a",), "$.dimensions", {"task": "embed", "options": EmbedOptions(dimensions=99)}),
        (([0, -1],), "$.texts[0][1]", {}),
        (([0, -1],), "$.texts[1]", {"listed": False}),
    ],
)
def test_paths_start_where_the_door_said_the_texts_stand(plane_of, items, path, fields):
    plane, log = plane_of()
    with pytest.raises(InputError) as refusal:
        asyncio.run(plane.answer(question(*items, path="$.texts", **fields)))
    assert refusal.value.path == path
    assert log.records[0].code == refusal.value.code


def test_where_answers_may_not_be_partial_the_first_fault_is_raised(plane_of):
    plane, _ = plane_of()
    with pytest.raises(InputError) as refusal:
        asyncio.run(plane.answer(question("a", "\ud800", partial=False)))
    assert refusal.value.path == "$.input[1]"


def test_a_question_given_up_while_its_language_is_sought_leaves_the_queue(plane_of):
    entered, leave = threading.Event(), threading.Event()

    def identify(texts):
        entered.set()
        assert leave.wait(10)
        return identify_many(texts)

    async def give_up(plane: Dataplane) -> None:
        runtime = plane.pool.models["router"].predictor.runtime.runtime
        runtime.gate.clear()
        held = plane.pool.models["router"].batcher.submit(
            plane.pool.models["router"].predictor.prepare("embed", ["hello"]).encodings, rows="all"
        )
        await asyncio.to_thread(runtime.entered.acquire, timeout=10)
        asking = asyncio.create_task(plane.answer(question("hello " * 400)))
        await asyncio.to_thread(entered.wait, 10)
        assert plane.pool.waiting_tokens > 400
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert plane.pool.waiting_tokens == 0
        runtime.gate.set()
        leave.set()
        await asyncio.to_thread(held.result, 10)

    plane, log = plane_of(identify)
    asyncio.run(give_up(plane))
    assert log.records[0].code == "client_gone"
    assert plane.idle


def test_on_its_way_down_it_takes_no_questions(plane_of):
    plane, _ = plane_of()
    assert plane.ready
    plane.drain()
    assert not plane.ready
    with pytest.raises(UnavailableError):
        asyncio.run(plane.answer(question("a")))
