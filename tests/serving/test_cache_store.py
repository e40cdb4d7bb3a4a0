"""Bounded in bytes, honest about them, and what is asked again stays."""

from __future__ import annotations

import gc
import os
import threading
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from xlmr.serving.cache_store import ENTRY_BYTES, Store


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 12), st.integers(0, 400)), min_size=20, max_size=200
    )
)
def test_it_never_holds_more_than_it_may_and_gives_only_what_it_was_given(steps):
    store, given_values = Store(5 * (ENTRY_BYTES + 200)), {}
    for asks, number, size in steps:
        if asks:
            value = store.get(key(number))
            assert value is None or value == given_values[number]
        else:
            given_values.setdefault(number, bytes([number]) * size)
            store.put(key(number), given_values[number])
        held = [store.get(key(n)) for n in range(13)]
        assert sum(ENTRY_BYTES + len(v) for v in held if v is not None) == store.size <= store.limit
        assert sum(v is not None for v in held) == len(store)


def test_a_value_larger_than_everything_is_not_kept():
    store = Store(1000)
    store.put(key(1), bytes(1000))
    assert len(store) == store.size == 0


def test_texts_seen_once_do_not_push_out_those_asked_again():
    store = Store(100 * (ENTRY_BYTES + 100))
    for number in range(20):
        store.put(key(number), bytes(100))
        store.get(key(number))
    for number in range(1000, 3000):
        store.put(key(number), bytes(100))
    assert all(store.get(key(number)) is not None for number in range(20))
    assert store.evicted == 2020 - len(store)


def test_what_comes_back_soon_after_it_left_stays():
    store = Store(100 * (ENTRY_BYTES + 100))
    for number in range(150):
        store.put(key(number), bytes(100))
    lost = range(45, 50)
    assert all(store.get(key(number)) is None for number in lost)
    for number in (*lost, *range(1000, 1200)):
        store.put(key(number), bytes(100))
    assert all(store.get(key(number)) is not None for number in lost)
    assert store.get(key(149)) is None


def test_what_is_asked_no_more_leaves():
    store = Store(100 * (ENTRY_BYTES + 100))
    for number in range(90):
        store.put(key(number), bytes(100))
        store.get(key(number))
    for number in range(1000, 1400):
        store.put(key(number), bytes(100))
        store.get(key(number))
    assert all(store.get(key(number)) is None for number in range(90))


def test_it_costs_the_memory_it_says():
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        store = Store(30_000 * (ENTRY_BYTES + 300))
        for number in range(75_000):
            name = os.urandom(16)
            store.put(name, bytes(300))
            if number % 5 == 0:
                store.get(name)
        gc.collect()
        real = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.85 < store.size / real < 1.15


def test_several_threads_at_once_leave_it_whole():
    store = Store(50 * (ENTRY_BYTES + 10))
    faults = []

    def work(seed: int) -> None:
        try:
            for step in range(3000):
                number = (step * 7 + seed) % 120
                store.put(key(number), bytes([number]) * 10)
                assert store.get(key(number)) in (None, bytes([number]) * 10)
        except BaseException as fault:
            faults.append(fault)
            raise

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    held = [store.get(key(n)) for n in range(120)]
    assert sum(ENTRY_BYTES + 10 for value in held if value is not None) == store.size
