"""Workers are real processes here, and die real deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xlmr.errors import (
    BudgetError,
    CancelledError,
    EngineError,
    InputError,
    ModelError,
    UnavailableError,
)
from xlmr.model.bundle import open_bundle
from xlmr.model.runtime import pack
from xlmr.model.runtimes.reference import ReferenceRuntime
from xlmr.serving import wire
from xlmr.serving.shares import Share
from xlmr.serving.workers import Plan, WorkerRuntime, _Child, _order, start_workers
from xlmr.settings import Settings

SECONDS = 60


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture(scope="module")
def bundle(models):
    return open_bundle(models / "sentences")


@pytest.fixture
def plan(bundle, tmp_path):
    settings = Settings(runtime="reference", cache_dir=tmp_path, batch_tokens=2048)
    share = Share((), 1)
    return Plan(
        config=bundle.config,
        order=_order(bundle, settings, share),
        share=share,
        max_batch_tokens=2048,
        timeout_s=SECONDS,
        first_pause_s=0.01,
    )


@pytest.fixture
def worker_of(plan):
    made = []

    def make(**changed):
        made.append(WorkerRuntime(replace(plan, **changed)))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


@pytest.fixture
def worker(worker_of):
    worker = worker_of()
    worker.warm()
    return worker


@pytest.fixture(scope="module")
def batch(encode):
    return pack([encode(0, 5, 6, 2), encode(0, 7, 2), encode(0, *range(4, 200), 2)])


@pytest.mark.parametrize("rows", ["all", "first"])
def test_it_computes_what_the_runtime_in_this_process_does(bundle, worker, batch, rows):
    here = ReferenceRuntime.open(bundle).run(batch, rows=rows)
    there = worker.run(batch, rows=rows)
    again = worker.run(pack([]), rows=rows)
    assert np.array_equal(here.hidden_TD, there.hidden_TD)
    assert here.starts.tolist() == there.starts.tolist()
    assert len(again.hidden_TD) == 0
    assert worker.name == "reference fp32 numpy, own process"
    assert worker.pid != os.getpid()


def test_an_answer_is_not_overwritten_by_the_next(worker, encode):
    first = worker.run(pack([encode(0, 5, 2)])).hidden_TD
    kept = first.copy()
    worker.run(pack([encode(0, 9, 2)]))
    assert np.array_equal(first, kept)


def test_batches_it_cannot_compute_are_refused_here(worker, encode):
    with pytest.raises(BudgetError):
        worker.run(pack([encode(*[5] * 500)] * 5))
    with pytest.raises(InputError):
        worker.run(pack([encode(10_000)]))
    assert worker.available


def test_a_worker_killed_in_its_batch_is_replaced_and_the_batch_answered(worker_of, batch):
    deaths = []
    worker = worker_of(on_restart=lambda: deaths.append(1))
    worker.warm()
    expected = worker.run(batch).hidden_TD
    old = worker.pid
    # Stopped, it has the batch for sure when it is killed.
    os.kill(old, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(worker.run, batch)
        eventually(lambda: worker._turn.locked())
        time.sleep(0.05)
        os.kill(old, signal.SIGKILL)
        assert np.array_equal(asked.result(SECONDS).hidden_TD, expected)
    assert worker.pid != old
    assert len(deaths) == 1


def test_a_dead_workers_line_stays_open_while_somebody_reads_it(worker_of, batch, monkeypatch):
    worker = worker_of()
    worker.warm()
    expected, old = worker.run(batch).hidden_TD, worker.pid
    hung_up, seen, receive, hang_up = threading.Event(), [], wire.receive, _Child.hang_up

    def hang_up_and_tell(child):
        hang_up(child)
        hung_up.set()

    def receive_late(line):
        if not seen:
            os.kill(old, signal.SIGKILL)
            assert hung_up.wait(SECONDS)
            # Closed now, its number would be the next worker's, whose answers would be read here.
            time.sleep(0.1)
            seen.append(line.fileno())
        return receive(line)

    monkeypatch.setattr(_Child, "hang_up", hang_up_and_tell)
    monkeypatch.setattr(wire, "receive", receive_late)
    assert np.array_equal(worker.run(batch).hidden_TD, expected)
    assert seen[0] >= 0
    assert worker.pid != old


def test_an_idle_worker_that_dies_is_replaced_before_anybody_asks(worker):
    old = worker.pid
    os.kill(old, signal.SIGKILL)
    eventually(lambda: worker.available and worker.pid != old)


def test_a_worker_that_hangs_is_killed_and_its_batch_answered(worker_of, batch):
    worker = worker_of(timeout_s=2.0)
    worker.warm()
    old = worker.pid
    os.kill(old, signal.SIGSTOP)
    assert len(worker.run(batch).hidden_TD) == len(batch.ids_T)
    assert worker.pid != old
    eventually(lambda: not runs(old))


def test_a_batch_that_costs_two_workers_is_an_error_and_a_third_comes(worker_of, encode):
    worker = worker_of(timeout_s=0.001)
    worker.warm()
    old = worker.pid
    with pytest.raises(EngineError, match="2 workers died of one batch"):
        worker.run(pack([encode(*[5] * 500)] * 4))
    eventually(lambda: worker.available and worker.pid != old)


def test_workers_that_keep_dying_are_started_ever_more_slowly(worker_of):
    started = []
    worker = worker_of(on_restart=lambda: started.append(time.monotonic()), first_pause_s=0.4)
    worker.warm()
    for _ in range(3):
        eventually(lambda: worker.available)
        deaths = len(started)
        os.kill(worker.pid, signal.SIGKILL)
        eventually(lambda deaths=deaths: len(started) > deaths)
    # The second death in a row is followed by a pause.
    assert started[2] - started[1] > 0.4


def test_a_batch_is_refused_where_the_replacement_takes_too_long(worker_of, batch):
    worker = worker_of(first_pause_s=SECONDS, patience_s=0.1)
    worker.warm()
    for _ in range(2):
        eventually(lambda: worker.available)
        old = worker.pid
        os.kill(old, signal.SIGKILL)
        eventually(lambda old=old: worker.pid != old)
    with pytest.raises(UnavailableError, match="being replaced"):
        worker.run(batch)


def test_closing_stops_what_is_computed_and_leaves_no_process(worker, batch):
    pid = worker.pid
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(worker.run, batch)
        eventually(lambda: worker._turn.locked())
        os.kill(pid, signal.SIGCONT)
        worker.close()
        fault = asked.exception(SECONDS)
        assert fault is None or isinstance(fault, CancelledError)
    assert not runs(pid)
    with pytest.raises(CancelledError):
        worker.run(batch)
    worker.close()


def test_a_model_that_cannot_be_opened_is_its_own_error(plan, tmp_path):
    worker = WorkerRuntime(replace(plan, order=plan.order | {"directory": str(tmp_path)}))
    with pytest.raises(ModelError, match=r"config\.json"):
        worker.warm()
    worker.close()


def test_files_that_changed_since_are_refused(plan):
    worker = WorkerRuntime(replace(plan, order=plan.order | {"digest": "0" * 64}))
    with pytest.raises(ModelError, match="not those that were loaded"):
        worker.warm()
    worker.close()


def test_several_are_started_and_share_the_processors(bundle, tmp_path):
    settings = Settings(runtime="reference", cache_dir=tmp_path, workers=2, batch_tokens=512)
    workers = start_workers(bundle, settings)
    pids = [worker.pid for worker in workers]
    bound = [os.sched_getaffinity(pid) for pid in pids]
    for worker in workers:
        worker.close()
    assert len(set(pids)) == 2
    assert set.union(*bound) <= os.sched_getaffinity(0)
    if len(os.sched_getaffinity(0)) > 1:
        assert not bound[0] & bound[1]
    assert not any(map(runs, pids))


def test_while_one_is_replaced_the_others_take_the_batches(watched_class, batcher_of, encode):
    gone, there = watched_class(), watched_class()
    gone.available = False
    batcher = batcher_of(gone, there)
    for _ in range(5):
        batcher.submit([encode(1)], rows="first").result(SECONDS)
    assert (len(gone.batches), len(there.batches)) == (0, 5)
    there.gate.clear()
    held = batcher.submit([encode(1)], rows="first")
    eventually(lambda: len(there.batches) == 6)
    waiting = batcher.submit([encode(2)], rows="first")
    gone.available = True
    assert waiting.result(SECONDS)
    there.gate.set()
    assert held.result(SECONDS)
    assert len(gone.batches) == 1


def test_where_none_is_there_a_batch_is_told_so(watched_class, batcher_of, encode):
    runtime = watched_class()
    runtime.available = False
    runtime.fault = UnavailableError("the worker is being replaced", retry_after_s=5.0)
    with pytest.raises(UnavailableError) as refused:
        batcher_of(runtime).submit([encode(1)], rows="first").result(SECONDS)
    assert refused.value.retry_after_s == 5.0


PARENT = """
import sys, time
from pathlib import Path
from xlmr.model.bundle import open_bundle
from xlmr.serving.workers import start_workers
from xlmr.settings import Settings

settings = Settings(runtime="reference", cache_dir=Path(sys.argv[2]), workers=2, batch_tokens=512)
workers = start_workers(open_bundle(Path(sys.argv[1])), settings)
print(*[worker.pid for worker in workers], flush=True)
time.sleep(600)
"""


def test_workers_die_with_a_parent_that_is_killed(models, tmp_path):
    arguments = [sys.executable, "-c", PARENT, str(models / "sentences"), str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(runs, pids))
        parent.kill()
    for pid in pids:
        eventually(lambda pid=pid: not runs(pid))
