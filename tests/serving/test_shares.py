from __future__ import annotations

from pathlib import Path

import pytest

from xlmr.serving.shares import Share, share_out


def machine(root: Path, nodes: dict[str, str], siblings: dict[int, str] | None = None) -> Path:
    for name, processors in nodes.items():
        (root / "node" / name).mkdir(parents=True)
        (root / "node" / name / "cpulist").write_text(processors + "\n")
    for processor, threads in (siblings or {}).items():
        path = root / f"cpu/cpu{processor}/topology"
        path.mkdir(parents=True)
        (path / "thread_siblings_list").write_text(threads + "\n")
    return root


def test_each_node_gets_a_worker(tmp_path):
    system = machine(tmp_path, {"node0": "0-1,4-5", "node1": "2-3,6-7"})
    assert share_out(2, processors=range(8), usable=8, system=system) == [
        Share((0, 1, 4, 5), 4),
        Share((2, 3, 6, 7), 4),
    ]


def test_two_threads_of_a_core_stay_together(tmp_path):
    siblings = {0: "0,2", 2: "0,2", 1: "1,3", 3: "1,3"}
    system = machine(tmp_path, {"node0": "0-3"}, siblings)
    shares = share_out(2, processors=range(4), usable=4, system=system)
    assert [share.processors for share in shares] == [(0, 2), (1, 3)]


def test_a_quota_bounds_threads_and_not_places(tmp_path):
    shares = share_out(2, processors=range(64), usable=5, system=tmp_path)
    assert [share.threads for share in shares] == [3, 2]
    assert [len(share.processors) for share in shares] == [32, 32]


def test_more_workers_than_processors_share_them(tmp_path):
    shares = share_out(3, processors=[4, 7], usable=2, system=tmp_path)
    assert [share.threads for share in shares] == [1, 1, 1]
    assert {p for share in shares for p in share.processors} == {4, 7}
    assert all(share.processors for share in shares)


def test_threads_that_are_asked_for_are_given(tmp_path):
    assert share_out(1, threads=9, processors=[0], usable=1, system=tmp_path) == [Share((0,), 9)]


def test_where_processes_cannot_be_bound_threads_are_still_shared(tmp_path):
    assert share_out(2, processors=(), usable=4, system=tmp_path) == [Share((), 2)] * 2


@pytest.mark.parametrize("written", ["", "x", "3-"])
def test_a_system_that_describes_itself_oddly_is_no_obstacle(tmp_path, written):
    system = machine(tmp_path, {"node0": written})
    assert len(share_out(2, processors=range(4), usable=4, system=system)) == 2
