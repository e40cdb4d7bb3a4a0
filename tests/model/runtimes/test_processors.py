"""Thread counts follow the container's quota, not the host's cores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xlmr.model.runtimes.processors import usable_processors

HERE = len(os.sched_getaffinity(0))


def cgroup(root: Path, **files: str) -> Path:
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_max", ".max").replace("cfs", "cpu.cfs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("150000 100000", min(2, HERE)),
        ("max 100000", HERE),
        ("nonsense", HERE),
        ("100000 0", HERE),
    ],
)
def test_quota_of_the_unified_hierarchy(tmp_path: Path, content: str, expected: int) -> None:
    assert usable_processors(cgroup(tmp_path, cpu_max=content)) == expected


@pytest.mark.parametrize(("quota", "expected"), [("100000", 1), ("-1", HERE)])
def test_quota_of_the_older_hierarchy(tmp_path: Path, quota: str, expected: int) -> None:
    root = cgroup(tmp_path, cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    assert usable_processors(root) == expected


def test_no_cgroup_at_all(tmp_path: Path) -> None:
    assert usable_processors(tmp_path / "missing") == HERE
