"""What `training.py` measured, as Markdown: nothing in these tables is typed by hand."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

_METRICS = {"accuracy": "accuracy", "span_f1": "span F1", "f1": "F1"}


def render(measured: Mapping[str, Any]) -> str:
    """The summary, then each task language by language.

    Args:
        measured: what `training.py` writes.
    """
    parts = [_origin(measured), _summary(measured["tasks"])]
    for task in measured["tasks"].values():
        parts += list(_task(task))
    return "\n\n".join(parts) + "\n"


def best_script(task: Mapping[str, Any]) -> str | None:
    """The learning rate at which the script did best; None where it was not run."""
    scripts = [name for name in task if name.startswith("script-")]
    return max(scripts, key=lambda name: task[name]["macro"], default=None)


def _origin(measured: Mapping[str, Any]) -> str:
    machine = measured["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    return (
        f"Measured on {machine['processor']} with {measured['threads']} threads, "
        f"Python {machine['python']}, {versions}; {measured['epochs']} epochs, "
        f"seed {measured['seed']}; scored at {measured['precision']}. "
        "Of the script's learning rates the better one is shown." + _limits(measured)
    )


def _limits(measured: Mapping[str, Any]) -> str:
    limits = {
        "training rows": measured["train_rows"],
        "test rows a language": measured["test_rows"],
    }
    said = " and ".join(f"{most:,} {rows}" for rows, most in limits.items() if most)
    return f" **A trial with at most {said}: its figures say nothing.**" if said else ""


def _summary(tasks: Mapping[str, Any]) -> str:
    heads = ["task", "rows", "metric", "ours", "script", "difference", "epoch, ours / script"]
    lines = _head(heads, left=("task", "metric"))
    for task in tasks.values():
        ours, name = task.get("ours"), best_script(task)
        script = task[name] if name else None
        either = ours or script
        if either is None:
            continue
        cells = [
            task["title"],
            f"{either['rows']:,}",
            _METRICS.get(either["metric"], either["metric"]),
            _figure(ours),
            f"{_figure(script)} at {name.removeprefix('script-')}" if name else "–",
            f"{100 * (ours['macro'] - script['macro']):+.1f}" if ours and script else "–",
            _times(task.get("rounds")),
        ]
        lines.append(_row(cells))
    return "\n".join(lines)


def _task(task: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {task['title']}"
    scripts = [name for name in task if name.startswith("script-")]
    columns = {name: task[name] for name in ("ours", *scripts) if name in task}
    if not columns:
        return
    yield f"Trained on `{task['trained_on']}`, " + ", ".join(
        f"{name.replace('script-', 'script at ')}: {task[name]['seconds']:.0f} s"
        for name in columns
    )
    lines = _head(["language", "n", *(n.replace("script-", "script, ") for n in columns)])
    every = sorted({key for column in columns.values() for key in column["languages"]})
    for key in every:
        found = [column["languages"].get(key) for column in columns.values()]
        rows = next(each["n"] for each in found if each)
        cells = [f"{each['value']:.3f}" if each else "–" for each in found]
        lines.append(_row([key, str(rows), *cells]))
    macros = [f"**{column['macro']:.3f}**" for column in columns.values()]
    lines.append(_row(["**macro**", "", *macros]))
    yield "\n".join(lines)
    yield "\n".join(["```", *(column["command"] for column in columns.values()), "```"])


def _times(rounds: Mapping[str, Any] | None) -> str:
    if rounds is None:
        return "–"
    ours = statistics.median(rounds["ours_seconds"])
    script = statistics.median(rounds["script_seconds"])
    return f"{ours:.0f} s / {script:.0f} s = {rounds['times_faster']:.2f} × faster"


def _figure(run: Mapping[str, Any] | None) -> str:
    return f"{run['macro']:.3f}" if run else "–"


def _head(heads: list[str], left: tuple[str, ...] = ("language",)) -> list[str]:
    return [_row(heads), _row([":---" if head in left else "---:" for head in heads])]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
