"""Tells a tracker of a run without making the run wait, or end, for it.

Messages go through a queue to a thread. What a tracker raises is counted and said once, at the end;
after some faults in a row it is told no more, for a server that is gone costs a time-out each time.
"""

from __future__ import annotations

import json
import queue
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xlmr.training.loop import Step
from xlmr.training.recipe import Recipe
from xlmr.training.trackers import Tracker
from xlmr.wholly import write_whole

_FAULTS_IN_A_ROW = 5
_WAITING = 100_000  # messages: some 50 MB
_KNOWN = "tracker.json"
_PASSWORD = re.compile(r"//[^/@\s]+@")


class Courier:
    """One tracker's messenger for one run; without a tracker it does nothing.

    Args:
        tracker: who is told.
        patience_s: how long the end waits for what is still to be told.
    """

    def __init__(self, tracker: Tracker | None, *, patience_s: float = 60.0) -> None:
        self._tracker, self._patience_s = tracker, patience_s
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._told = self._lost = self._row = 0
        self._first = ""
        # A daemon: a tracker that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._deliver, name="tracker", daemon=True)

    def start(self, recipe: Recipe, identity: Mapping[str, Any], directory: Path) -> None:
        """Opens the run, or opens it again where it was followed before it was killed."""
        if (tracker := self._tracker) is None:
            return
        known = _known(directory, tracker.name)

        def open_there() -> None:
            try:
                found = tracker.start(recipe, identity, directory, known=known)
            except BaseException:
                self._row = _FAULTS_IN_A_ROW  # nothing can be told of a run that is not open
                raise
            write_whole(directory / _KNOWN, json.dumps({tracker.name: found}) + "\n")

        self._thread.start()
        self._put(open_there)

    def step(self, step: Step) -> None:
        """Tells of a step, soon."""
        if (tracker := self._tracker) is not None:
            self._put(lambda: tracker.step(step))

    def finish(self, record: Mapping[str, Any] | None, directory: Path) -> str:
        """Tells of the end and waits for it; gives one line about what went wrong, if anything."""
        if (tracker := self._tracker) is None:
            return ""
        self._put(lambda: tracker.finish(record, directory))
        self._waiting.put(None)
        self._thread.join(self._patience_s)
        if self._thread.is_alive():
            left = self._waiting.qsize()
            return f"{tracker.name} does not answer; {left} messages were not delivered"
        if self._lost:
            return f"{tracker.name}: {self._lost} of {self._told} messages lost ({self._first})"
        return ""

    def _put(self, message: Callable[[], None]) -> None:
        self._told += 1
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._lost += 1
            self._first = self._first or "they came faster than they were taken"

    def _deliver(self) -> None:
        while (message := self._waiting.get()) is not None:
            if self._row >= _FAULTS_IN_A_ROW:
                self._lost += 1
                continue
            try:
                message()
            # Another's package may raise anything, and nothing of it is worth a run.
            except Exception as fault:  # noqa: BLE001
                self._lost += 1
                self._row += 1
                self._first = self._first or _said(fault)
            else:
                self._row = 0


def _known(directory: Path, name: str) -> str:
    """What found the run of this directory before; empty where nothing did."""
    try:
        return str(json.loads((directory / _KNOWN).read_text(encoding="utf-8")).get(name, ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _said(fault: Exception) -> str:
    """A fault's kind and first line, without passwords of addresses."""
    line = (str(fault).splitlines() or [""])[0][:200]
    return f"{type(fault).__name__}: {_PASSWORD.sub('//', line)}".removesuffix(": ")
