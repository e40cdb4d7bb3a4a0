from __future__ import annotations

import os
import subprocess
import sys

from xlmr.telemetry.memory import resident_bytes


def test_a_process_holds_what_it_has_touched():
    before = resident_bytes()
    held = bytearray(64 * 1024 * 1024)
    assert resident_bytes(os.getpid()) - before > 0.9 * len(held)


def test_a_process_that_is_gone_holds_nothing_that_is_known(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert resident_bytes(child.pid) is None
    assert resident_bytes(1, proc=tmp_path) is None
