"""Bars for work that takes its time, where somebody watches; silence elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

_PATIENCE_S = 2.0


@contextmanager
def byte_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each step that tells (step, bytes done, in all), on stderr, gone when done."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step)
            bars.update(tasks[step], completed=done, total=total or None)

        yield progress


class TokenBar:
    """Shows a share done, tokens a second and the time left. Write nothing else while it stands."""

    def __init__(
        self,
        title: str,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._started = clock()
        self._tokens = 0
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bars.add_task(title, total=1.0, speed="")
        self._shown = False

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return self._clock() - self._started

    @property
    def tokens(self) -> int:
        """All tokens told of so far."""
        return self._tokens

    def advance(self, *, done: float, tokens: int, note: str = "") -> None:
        """Tells of progress: the share `done` in all (0 to 1), and how many tokens are new."""
        self._tokens += tokens
        seconds = self.seconds
        if not self._console.is_terminal or seconds < _PATIENCE_S:
            return
        if not self._shown:
            self._bars.start()
            self._shown = True
        speed = f"{self._tokens / seconds:,.0f} tokens/s {note}".rstrip()
        self._bars.update(self._task, completed=done, speed=speed)

    def __enter__(self) -> TokenBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._shown:
            self._bars.stop()
