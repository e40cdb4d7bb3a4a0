from __future__ import annotations

import subprocess
import sys

import pytest

from xlmr.telemetry.memory import Group, group_memory, resident_bytes

# In a process of its own: here other tests' threads give memory back meanwhile.
TOUCHING = """
import os
from xlmr.telemetry.memory import resident_bytes
before = resident_bytes()
held = bytearray(b"x") * (64 * 1024 * 1024)
assert resident_bytes(os.getpid()) - before > 0.9 * len(held)
"""


def test_a_process_holds_what_it_has_touched():
    subprocess.run([sys.executable, "-c", TOUCHING], check=True)


def test_a_process_that_is_gone_holds_nothing_that_is_known(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert resident_bytes(child.pid) is None
    assert resident_bytes(1, proc=tmp_path) is None


def cgroup(root, **files):
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_", ".", 1)
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return root


SECOND = {
    "memory_stat": "anon 600\nfile 5000\nshmem 100\n",
    "memory_events": "low 0\noom 3\noom_kill 2\n",
}
STAT = "cache 9\ntotal_rss 600\ntotal_shmem 100\nhierarchical_memory_limit {}\n"


def test_a_group_of_the_second_version(tmp_path):
    assert group_memory(cgroup(tmp_path, **SECOND, memory_max="1000\n")) == Group(1000, 700, 2)
    (tmp_path / "memory.max").write_text("max\n")
    assert group_memory(tmp_path) == Group(0, 700, 2)


@pytest.mark.parametrize(("said", "limit"), [("1000", 1000), ("9223372036854771712", 0)])
def test_a_group_of_the_first_version(tmp_path, said, limit):
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.stat").write_text(STAT.format(said))
    (tmp_path / "memory" / "memory.oom_control").write_text("under_oom 0\noom_kill 2\n")
    assert group_memory(tmp_path) == Group(limit, 700, 2)
    # Older kernels do not count them.
    (tmp_path / "memory" / "memory.oom_control").write_text("under_oom 0\n")
    assert group_memory(tmp_path) == Group(limit, 700, 0)


def test_without_a_group_nothing_is_known(tmp_path):
    assert group_memory(tmp_path) == Group()
    # The root of all groups has no limit file.
    assert group_memory(cgroup(tmp_path, **SECOND)) == Group()
    assert group_memory(cgroup(tmp_path, memory_stat="what is this", memory_max="1")) == Group()
