from __future__ import annotations

import itertools

from xlmr.serving.warmup import timed_batches


def test_a_few_batches_are_timed_and_the_fastest_run_counts(watched_class):
    ticks = itertools.count()
    runtime = watched_class(max_batch_tokens=256)
    # Runs take one and then three ticks.
    steps = itertools.cycle([0, 1, 0, 3])
    now = [0]

    def clock() -> float:
        next(ticks)
        now[0] += next(steps)
        return float(now[0])

    measured = timed_batches(runtime, clock=clock)
    assert measured == [(16, 256, 1.0), (64, 4096, 1.0), (256, 8 * 32 * 32, 1.0), (64, 4096, 1.0)]
    assert len(runtime.batches) == 8


def test_no_batch_is_larger_than_the_runtime_takes(watched_class):
    runtime = watched_class(max_batch_tokens=20)
    assert [tokens for tokens, _, _ in timed_batches(runtime)] == [16, 20, 20]
    assert all(tokens <= 20 for tokens, _ in runtime.batches)
