"""Every job is computed once, in order, within the budget; nobody starves or is counted twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from xlmr.serving.scheduler import Job, Scheduler

BUDGET = 40

lengths = st.lists(st.integers(1, BUDGET), min_size=1, max_size=6)
rows = st.sampled_from(["first", "all"])
priorities = st.integers(0, 2)
# Seconds from now; None for no deadline.
deadlines = st.none() | st.floats(-0.5, 8)


def job(*lengths: int, now: float = 0.0, rows="all", **terms) -> Job:
    return Job(lengths, rows=rows, arrived=now, **terms)


class Queue(RuleBasedStateMachine):
    """Jobs come, give up and are taken, at any time; a model of the queue watches."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.scheduler: Scheduler[Job] = Scheduler(budget=BUDGET, age_bound_s=1.0)
        # What is still to be taken of each job, by index.
        self.left: dict[Job, set[int]] = {}

    @rule(passed=st.floats(0, 0.7))
    def time_passes(self, passed):
        self.now += passed

    @rule(lengths=lengths, rows=rows, priority=priorities, wait=deadlines)
    def one_comes(self, lengths, rows, priority, wait):
        deadline = None if wait is None else self.now + wait
        new = Job(lengths, rows=rows, arrived=self.now, deadline=deadline, priority=priority)
        self.scheduler.add(new, seconds=sum(lengths) / 1000)
        self.left[new] = set(range(len(lengths)))

    @precondition(lambda self: self.left)
    @rule(number=st.integers(0, 1000))
    def one_gives_up(self, number):
        gone = list(self.left)[number % len(self.left)]
        self.scheduler.remove(gone)
        self.scheduler.remove(gone)
        del self.left[gone]

    @rule()
    def deadlines_pass(self):
        for gone in self.scheduler.expired(self.now):
            assert gone.deadline <= self.now
            assert self.left.pop(gone) == set(range(len(gone.lengths)))
        for kept in self.left:
            assert kept.deadline is None or kept.deadline > self.now or kept.started

    @rule(seconds=st.sampled_from([0.0, 0.02, 1e9]))
    def a_batch_is_taken(self, seconds):
        before = sorted(self.left, key=lambda one: one.place)
        oldest = self.scheduler.arrival()
        batch = self.scheduler.take(self.now, seconds=seconds, pace=(1e-3, 1e-5))
        assert bool(batch) == bool(before)
        if not batch:
            return
        taken = [piece.job.lengths[index] for piece in batch for index in piece.indexes]
        assert sum(taken) <= BUDGET
        assert len(taken) == 1 or sum(1e-3 * n + 1e-5 * n * n for n in taken) <= seconds
        assert len({piece.job.rows for piece in batch}) == 1
        lead = batch[0].job
        overdue = self.now - oldest > 1.0
        assert lead is before[0] or (overdue and lead.arrived == oldest)
        followers = [piece.job for piece in batch if piece.job is not lead]
        assert followers == sorted(followers, key=lambda one: one.place)
        for piece in batch:
            assert piece.indexes
            for index in piece.indexes:
                self.left[piece.job].remove(index)
            if not self.left[piece.job]:
                del self.left[piece.job]

    @invariant()
    def the_books_balance(self):
        waiting = [(one, one.lengths[index]) for one, left in self.left.items() for index in left]
        assert self.scheduler.tokens == sum(length for _, length in waiting)
        assert self.scheduler.squares == sum(length**2 for _, length in waiting)
        assert len(self.scheduler) == len(self.left)
        assert set(self.scheduler) == set(self.left)
        assert self.scheduler.ahead((9, 0.0)) == (self.scheduler.tokens, self.scheduler.squares)
        arrivals = [one.arrived for one in self.left]
        assert self.scheduler.arrival() == (min(arrivals) if arrivals else None)

    def teardown(self):
        batches = 0
        while self.left:
            self.a_batch_is_taken(1e9)
            batches += 1
            assert batches < 10_000
        self.the_books_balance()


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def order(scheduler: Scheduler[Job], now: float = 0.0) -> list[Job]:
    taken = []
    while batch := scheduler.take(now):
        taken += [piece.job for piece in batch]
    return taken


def filled(*jobs: Job, budget: int = 10, **options) -> Scheduler[Job]:
    scheduler: Scheduler[Job] = Scheduler(budget=budget, **options)
    for one in jobs:
        scheduler.add(one, seconds=one.tokens / 1000)
    return scheduler


def test_priority_goes_before_deadline_and_deadline_before_length():
    low, late, long, short = (
        job(10, priority=2, deadline=0.5),
        job(10, deadline=5.0),
        job(10, deadline=1.01),
        job(9, deadline=1.04),
    )
    high = job(10, priority=0, deadline=60.0)
    assert order(filled(low, late, long, short, high)) == [high, short, long, late, low]


def test_jobs_without_deadlines_are_taken_as_they_came_but_for_the_shortest_of_a_moment():
    first, second = job(10, now=0.01), job(4, 5, now=0.04)
    later, last = job(3, now=0.5), job(8, now=0.9)
    assert order(filled(first, second, last, later), 1.0) == [second, first, later, last]


def test_a_job_without_a_deadline_makes_nobody_late_who_came_before():
    hard = job(10, now=0.0, deadline=5.0)
    soft = job(9, now=0.1)
    urgent = job(10, now=0.2, deadline=1.0)
    assert order(filled(hard, soft, urgent), 0.3) == [urgent, hard, soft]


def test_what_does_not_fit_lets_others_pass_and_leads_the_next_batch():
    scheduler = filled(job(6), job(7), job(4))
    first, second = scheduler.take(0.0), scheduler.take(0.0)
    assert [piece.job.lengths for piece in first] == [(4,), (6,)]
    assert [piece.job.lengths for piece in second] == [(7,)]


def test_a_large_job_fills_a_batch_with_its_longest_texts_first():
    scheduler = filled(job(3, 9, 2, 5, 1))
    batches = []
    while batch := scheduler.take(0.0):
        batches.append([[piece.job.lengths[i] for i in piece.indexes] for piece in batch])
    assert batches == [[[9, 1]], [[5, 3, 2]]]


def test_a_batch_is_cut_where_it_would_take_too_long_but_never_to_nothing():
    scheduler = filled(job(5, 5, 5), budget=100)
    pace = (0.01, 0.0)
    sizes = []
    while batch := scheduler.take(0.0, seconds=0.1, pace=pace):
        sizes.append(sum(len(piece.indexes) for piece in batch))
    assert sizes == [2, 1]
    scheduler = filled(job(50), budget=100)
    assert scheduler.take(0.0, seconds=0.1, pace=pace)


@settings(max_examples=40, deadline=None)
@given(
    urgent=st.lists(lengths, min_size=1, max_size=4),
    patient=lengths,
    patient_rows=rows,
    wait=st.none() | st.floats(50, 100),
)
def test_under_a_flood_of_urgent_work_the_patient_are_computed_all_the_same(
    urgent, patient, patient_rows, wait
):
    """Urgent jobs come faster than they are computed, for ever; the low one is done in time."""
    scheduler: Scheduler[Job] = Scheduler(budget=BUDGET, age_bound_s=1.0)
    low = Job(patient, rows=patient_rows, arrived=0.0, priority=2, deadline=wait)
    scheduler.add(low, seconds=1.0)
    now, led = 0.0, 0
    while low.waits:
        now += 0.1
        for _ in range(3):
            for texts in urgent:
                scheduler.add(
                    Job(texts, rows="all", arrived=now, priority=0, deadline=now + 1), seconds=0.1
                )
        scheduler.take(now)
        led += now > 1.0
        assert led <= 4 * len(patient) + 4


def test_urgent_work_keeps_three_quarters_while_others_are_overdue():
    low = [job(10, priority=2) for _ in range(20)]
    high = [job(10, now=9.0, priority=0) for _ in range(20)]
    taken = order(filled(*low, *high, age_bound_s=5.0), 10.0)
    assert [one.priority for one in taken[:20]].count(0) == 15


def test_those_who_are_gone_are_forgotten_though_their_deadlines_are_days_away():
    scheduler: Scheduler[Job] = Scheduler(budget=BUDGET)
    for number in range(1000):
        one = job(5, now=number / 1000, deadline=1e6)
        scheduler.add(one, seconds=0.1)
        scheduler.take(number / 1000)
    assert len(scheduler._by_deadline) < 100
    assert not scheduler._classes


@pytest.mark.parametrize(("deadline", "ahead"), [(0.35, 5), (0.65, 12), (None, 12), (9.0, 12)])
def test_ahead_of_new_work_is_what_is_of_its_class_or_before(deadline, ahead):
    scheduler = filled(
        job(5, deadline=0.35), job(7, deadline=0.65), job(9, priority=2, deadline=0.1)
    )
    tokens, _ = scheduler.ahead(scheduler.class_of(1, deadline, 0.0))
    assert tokens == ahead
