"""Every encoding is computed once, with its own vectors, within the budgets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlmr.errors import (
    BudgetError,
    CancelledError,
    DeadlineError,
    EngineError,
    InputError,
    UnavailableError,
)
from xlmr.serving.batcher import Batcher
from xlmr.telemetry.metrics import Metrics

MakeBatcher = Callable[..., Batcher]
SECONDS = 10

texts = st.lists(st.integers(1, 999), min_size=1, max_size=12)
jobs = st.lists(
    st.tuples(st.lists(texts, min_size=1, max_size=6), st.sampled_from(["first", "all"])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(jobs=jobs, budget=st.integers(12, 40))
def test_every_encoding_gets_its_own_vectors_once(jobs, budget, watched_class, encode):
    runtime = watched_class(max_batch_tokens=budget)
    batcher = Batcher([runtime], batch_tokens=64, queue_tokens=10_000, metrics=Metrics())
    runtime.gate.clear()
    futures = [
        (batcher.submit([encode(*ids) for ids in texts], rows=rows), texts, rows)
        for texts, rows in jobs
    ]
    runtime.gate.set()
    for future, texts, rows in futures:
        vectors = future.result(SECONDS)
        assert len(vectors) == len(texts)
        for vector, ids in zip(vectors, texts, strict=True):
            expected = [[id, place] for place, id in enumerate(ids)]
            np.testing.assert_array_equal(vector, expected if rows == "all" else expected[:1])
    batcher.close()
    assert all(tokens <= budget for tokens, _ in runtime.batches)
    assert sum(runtime.sizes) == sum(len(texts) for texts, _ in jobs)
    assert batcher.waiting_tokens == 0


def test_what_waits_is_computed_together(watched, batcher_of, encode, metrics):
    batcher = batcher_of(watched)
    watched.gate.clear()
    futures = [batcher.submit([encode(1)], rows="all")]
    watched.entered.acquire(timeout=SECONDS)
    futures += [batcher.submit([encode(n, n)], rows="all") for n in range(2, 10)]
    watched.gate.set()
    for future in futures:
        future.result(SECONDS)
    assert watched.sizes == [1, 8]
    assert metrics.value("xlmr_batch_texts_sum") == 9
    assert metrics.value("xlmr_batch_tokens_sum") == 17


def test_the_two_kinds_of_rows_run_apart_and_neither_starves(watched, batcher_of, encode):
    batcher = batcher_of(watched)
    watched.gate.clear()
    futures = [batcher.submit([encode(1)], rows="all")]
    watched.entered.acquire(timeout=SECONDS)
    futures += [batcher.submit([encode(2)], rows="first")]
    futures += [batcher.submit([encode(3)], rows="all")]
    futures += [batcher.submit([encode(4)], rows="first")]
    watched.gate.set()
    for future in futures:
        future.result(SECONDS)
    assert watched.first_ids == [[1], [2, 4], [3]]


def test_a_job_larger_than_a_batch_is_spread_and_answered_together(watched, batcher_of, encode):
    batcher = batcher_of(watched, batch_tokens=4)
    vectors = batcher.submit([encode(n, n, n) for n in range(1, 6)], rows="all").result(SECONDS)
    assert [int(vector[0, 0]) for vector in vectors] == [1, 2, 3, 4, 5]
    assert watched.sizes == [1] * 5


def test_a_full_queue_refuses_at_once_and_says_when_to_return(watched, batcher_of, encode):
    batcher = batcher_of(watched, queue_tokens=10)
    watched.gate.clear()
    running = batcher.submit([encode(1)], rows="all")
    watched.entered.acquire(timeout=SECONDS)
    waiting = batcher.submit([encode(*range(1, 9))], rows="all")
    with pytest.raises(UnavailableError) as refusal:
        batcher.submit([encode(1, 2, 3)], rows="all")
    assert refusal.value.retry_after_s >= 1
    assert batcher.waiting_tokens == 8
    batcher.submit([encode(1, 2)], rows="all")
    watched.gate.set()
    assert running.result(SECONDS)
    assert waiting.result(SECONDS)


def test_what_could_never_wait_is_the_callers_fault(watched, batcher_of, encode):
    batcher = batcher_of(watched, queue_tokens=10)
    with pytest.raises(InputError, match="11 tokens in one request; at most 10"):
        batcher.submit([encode(*range(1, 7)), encode(*range(1, 6))], rows="all")


def test_a_text_beyond_the_batch_budget_is_refused(watched, batcher_of, encode):
    batcher = batcher_of(watched, batch_tokens=4)
    with pytest.raises(BudgetError):
        batcher.submit([encode(1, 2, 3, 4, 5)], rows="all")


def test_a_cancelled_job_leaves_the_queue(watched, batcher_of, encode):
    batcher = batcher_of(watched)
    watched.gate.clear()
    running = batcher.submit([encode(1)], rows="all")
    watched.entered.acquire(timeout=SECONDS)
    gone = batcher.submit([encode(2, 2, 2)], rows="all")
    stays = batcher.submit([encode(3)], rows="all")
    assert gone.cancel()
    assert batcher.waiting_tokens == 1
    watched.gate.set()
    running.result(SECONDS)
    stays.result(SECONDS)
    assert watched.first_ids == [[1], [3]]


def test_cancelling_while_computing_disturbs_nobody(watched, batcher_of, encode):
    batcher = batcher_of(watched)
    watched.gate.clear()
    gone = batcher.submit([encode(1), encode(2)], rows="all")
    watched.entered.acquire(timeout=SECONDS)
    assert gone.cancel()
    watched.gate.set()
    assert batcher.submit([encode(3)], rows="all").result(SECONDS)
    assert batcher.alive


@pytest.fixture
def giving_up(watched_class):
    class GivingUp(watched_class):
        """Computes a batch that begins with 1 until it is given up."""

        def run(self, batch, *, rows="all"):
            hidden = super().run(batch, rows=rows)
            if batch.ids_T[0] == 1 and batch.given_up is not None:
                end = time.monotonic() + SECONDS
                while not batch.given_up[0]:
                    assert time.monotonic() < end
                    time.sleep(0.001)
                raise CancelledError("given up")
            return hidden

    return GivingUp()


def test_a_batch_that_nobody_waits_for_ends(giving_up, batcher_of, encode, metrics, caplog):
    batcher = batcher_of(giving_up)
    gone = batcher.submit([encode(1)], rows="all")
    giving_up.entered.acquire(timeout=SECONDS)
    waits = batcher.submit([encode(2)], rows="all")
    assert gone.cancel()
    assert waits.result(SECONDS)
    assert batcher.alive
    assert metrics.value("xlmr_engine_faults_total") == 0
    assert caplog.records == []


def test_a_batch_that_somebody_waits_for_goes_on(giving_up, batcher_of, encode):
    batcher = batcher_of(giving_up)
    giving_up.gate.clear()
    first = batcher.submit([encode(3)], rows="all")
    giving_up.entered.acquire(timeout=SECONDS)
    gone, waits = (batcher.submit([encode(id)], rows="all") for id in (1, 2))
    giving_up.gate.set()
    giving_up.entered.acquire(timeout=SECONDS)
    gone.cancel()
    assert first.result(SECONDS)
    assert waits.result(SECONDS)


def test_a_fault_fails_only_its_batch_and_the_thread_survives(
    watched, batcher_of, encode, metrics, caplog
):
    batcher = batcher_of(watched)
    watched.gate.clear()
    watched.fault = ValueError("a foreign message that must not travel")
    doomed = batcher.submit([encode(1)], rows="all")
    watched.entered.acquire(timeout=SECONDS)
    watched.gate.set()
    with pytest.raises(EngineError) as failure:
        doomed.result(SECONDS)
    assert "ValueError" in str(failure.value)
    assert "travel" not in str(failure.value)
    watched.fault = None
    assert batcher.submit([encode(2)], rows="all").result(SECONDS)
    assert batcher.alive
    assert metrics.value("xlmr_engine_faults_total") == 1
    assert "the runtime failed" in caplog.text


def test_a_fault_takes_the_rest_of_a_spread_job_with_it(watched, batcher_of, encode):
    batcher = batcher_of(watched, batch_tokens=4)
    watched.fault = EngineError("broken")
    future = batcher.submit([encode(n, n, n) for n in range(1, 6)], rows="all")
    with pytest.raises(EngineError, match="broken"):
        future.result(SECONDS)
    watched.fault = None
    assert batcher.submit([encode(9)], rows="all").result(SECONDS)
    assert batcher.waiting_tokens == 0
    assert watched.sizes == [1, 1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_leaves_nobody_waiting_and_shows(watched, batcher_of, encode):
    batcher = batcher_of(watched)
    watched.gate.clear()
    watched.fault = KeyboardInterrupt()
    computing = batcher.submit([encode(1)], rows="all")
    watched.entered.acquire(timeout=SECONDS)
    waiting = batcher.submit([encode(2)], rows="all")
    watched.gate.set()
    for future in (computing, waiting):
        with pytest.raises(EngineError, match="died"):
            future.result(SECONDS)
    batcher.close()
    assert not batcher.alive
    with pytest.raises(UnavailableError):
        batcher.submit([encode(3)], rows="all")


def test_closing_finishes_what_is_queued_and_takes_no_more(watched, batcher_of, encode):
    batcher = batcher_of(watched)
    watched.gate.clear()
    futures = [batcher.submit([encode(n)], rows="all") for n in range(1, 5)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    watched.gate.set()
    closing.join(SECONDS)
    assert [int(future.result(0)[0][0, 0]) for future in futures] == [1, 2, 3, 4]
    with pytest.raises(UnavailableError):
        batcher.submit([encode(5)], rows="all")
    batcher.close()


def test_no_encodings_need_no_engine(watched, batcher_of):
    assert batcher_of(watched).submit([], rows="all").result(0) == []
    assert watched.batches == []


def test_many_threads_submit_at_once(watched, batcher_of, encode):
    batcher = batcher_of(watched, queue_tokens=100_000)
    results: dict[int, int] = {}

    def ask(number: int) -> None:
        for round in range(20):
            id = number * 20 + round + 1
            vectors = batcher.submit([encode(id), encode(id)], rows="first").result(SECONDS)
            results[id] = int(vectors[1][0, 0])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert results == {id: id for id in range(1, 161)}


def test_several_runtimes_compute_at_the_same_time(batcher_of, watched_class, encode):
    runtimes = [watched_class(), watched_class()]
    batcher = batcher_of(*runtimes, batch_tokens=4)
    for runtime in runtimes:
        runtime.gate.clear()
    future = batcher.submit([encode(n, n, n) for n in range(1, 5)], rows="all")
    for runtime in runtimes:
        assert runtime.entered.acquire(timeout=SECONDS)
    assert batcher.waiting_tokens == 6
    for runtime in runtimes:
        runtime.gate.set()
    assert [int(vector[0, 0]) for vector in future.result(SECONDS)] == [1, 2, 3, 4]
    assert sum(len(runtime.sizes) for runtime in runtimes) == 4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_where_one_of_several_threads_dies_the_others_go_on_and_it_is_seen(
    batcher_of, watched_class, encode
):
    killed, other = watched_class(), watched_class()
    batcher = batcher_of(killed, other, batch_tokens=4)
    for runtime in (killed, other):
        runtime.gate.clear()
    doomed = batcher.submit([encode(1, 1, 1)], rows="all")
    fine = batcher.submit([encode(2, 2, 2)], rows="all")
    for runtime in (killed, other):
        assert runtime.entered.acquire(timeout=SECONDS)
    if killed.first_ids == [[2]]:
        doomed, fine = fine, doomed
    queued = [batcher.submit([encode(n)], rows="all") for n in range(5)]
    killed.fault = SystemExit()
    killed.gate.set()
    with pytest.raises(EngineError, match="died"):
        doomed.result(SECONDS)
    other.gate.set()
    assert fine.result(SECONDS)
    assert all(future.result(SECONDS) for future in queued)
    assert not batcher.alive
    assert batcher.submit([encode(7)], rows="all").result(SECONDS)


def test_a_job_that_two_threads_fail_fails_once(batcher_of, watched_class, encode):
    runtimes = [watched_class(), watched_class()]
    batcher = batcher_of(*runtimes, batch_tokens=4)
    for runtime in runtimes:
        runtime.gate.clear()
        runtime.fault = ValueError("both")
    future = batcher.submit([encode(n, n, n) for n in range(1, 8)], rows="all")
    for runtime in runtimes:
        assert runtime.entered.acquire(timeout=SECONDS)
    for runtime in runtimes:
        runtime.gate.set()
    with pytest.raises(EngineError):
        future.result(SECONDS)
    for runtime in runtimes:
        runtime.fault = None
    assert batcher.submit([encode(1)], rows="all").result(SECONDS)
    assert batcher.alive
    assert batcher.waiting_requests == batcher.waiting_tokens == 0


def test_a_job_knows_how_long_it_waited_and_how_long_it_was_computed(batcher_of, watched, encode):
    now = [100.0]
    batcher = batcher_of(watched, clock=lambda: now[0])
    watched.gate.clear()
    first = batcher.submit([encode(1)], rows="all")
    watched.entered.acquire(timeout=SECONDS)
    second = batcher.submit([encode(2)], rows="all")
    now[0] += 2
    assert batcher.oldest_s == 2
    watched.gate.set()
    second.result(SECONDS)
    assert (first.queue_s, first.infer_s) == (0, 2)
    assert (second.queue_s, second.infer_s) == (2, 0)
    assert batcher.oldest_s == 0


def test_all_in_a_batch_that_holds_what_is_no_number_are_told(
    batcher_of, watched_class, encode
) -> None:
    class Broken(watched_class):
        def run(self, batch, *, rows="all"):
            hidden = super().run(batch, rows=rows)
            hidden.hidden_TD[batch.ids_T == 13] = np.nan
            return hidden

    runtime = Broken()
    batcher = batcher_of(runtime)
    runtime.gate.clear()
    alone = batcher.submit([encode(1)], rows="all")
    runtime.entered.acquire(timeout=SECONDS)
    wrong, beside = (batcher.submit([encode(id)], rows="all") for id in (13, 2))
    runtime.gate.set()
    (vector,) = beside.result(SECONDS)
    assert np.isfinite(vector).all()
    assert np.isnan(wrong.result(SECONDS)[0]).any()
    assert (alone.finite, wrong.finite, beside.finite) == (True, False, False)


def test_a_deadline_that_passes_in_the_queue_is_told_and_nothing_is_computed(
    batcher_of, watched, encode
):
    now = [100.0]
    batcher = batcher_of(watched, clock=lambda: now[0])
    watched.gate.clear()
    running = batcher.submit([encode(1)], rows="all")
    watched.entered.acquire(timeout=SECONDS)
    late = batcher.submit([encode(2)], rows="all", deadline=105.0)
    stays = batcher.submit([encode(3)], rows="all", deadline=160.0)
    now[0] += 6
    watched.gate.set()
    with pytest.raises(DeadlineError):
        late.result(SECONDS)
    assert running.result(SECONDS)
    assert stays.result(SECONDS)
    assert watched.first_ids == [[1], [3]]


def test_an_engine_that_hangs_is_seen_and_takes_no_more(batcher_of, watched, encode):
    now = [100.0]
    batcher = batcher_of(watched, clock=lambda: now[0])
    watched.gate.clear()
    hung = batcher.submit([encode(1)], rows="all")
    watched.entered.acquire(timeout=SECONDS)
    now[0] += 121
    assert not batcher.alive
    with pytest.raises(UnavailableError, match="does not answer"):
        batcher.submit([encode(2)], rows="all")
    watched.gate.set()
    assert hung.result(SECONDS)
    assert batcher.alive


@settings(max_examples=25, deadline=None)
@given(jobs=jobs, threads=st.integers(1, 3), gone=st.lists(st.integers(0, 11), max_size=4))
def test_whatever_is_cancelled_everybody_else_is_answered_and_nothing_is_left(
    jobs, threads, gone, watched_class, encode
):
    runtimes = [watched_class(max_batch_tokens=16) for _ in range(threads)]
    batcher = Batcher(runtimes, batch_tokens=64, queue_tokens=10_000, metrics=Metrics())
    futures = [
        batcher.submit([encode(*ids) for ids in texts], rows=rows, priority=number % 3)
        for number, (texts, rows) in enumerate(jobs)
    ]
    for number in gone:
        futures[number % len(futures)].cancel()
    for future, (texts, _) in zip(futures, jobs, strict=True):
        if not future.cancelled():
            assert [int(v[0, 0]) for v in future.result(SECONDS)] == [ids[0] for ids in texts]
    batcher.close()
    assert batcher.waiting_tokens == batcher.waiting_requests == 0
    assert all(tokens <= 16 for runtime in runtimes for tokens, _ in runtime.batches)
