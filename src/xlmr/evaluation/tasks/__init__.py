"""The tasks that can be evaluated, one file each, behind the port of `evaluator.py`.

task = find_task(predictor, columns_of(place, "test"))
evaluation = Evaluation(make_evaluator(task, predictor, files), files)
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from xlmr.errors import DataError, TaskError
from xlmr.evaluation.suites import (
    ANSWER,
    BITEXT,
    CLASSIFY,
    INFER,
    MULTI_LABEL,
    PARAPHRASE,
    PLAIN_TEXT,
    RANK,
    SCORE,
    SIMILARITY,
    TAG,
    Schema,
    Table,
)
from xlmr.evaluation.tasks.evaluator import (
    Answered,
    Evaluation,
    Evaluator,
    Judged,
    Labelled,
    values_by_language,
)
from xlmr.model.bundle import Bundle
from xlmr.model.heads.classify import activation_of
from xlmr.model.heads.labels import parse_labels
from xlmr.model.predictor import Predictor

# What a model can do: its tasks, but `classify` parted by what comes out of it.
Skill = Literal["labels", "many labels", "number", "tag", "answer", "embed", "rerank", "fill"]


@dataclass(frozen=True, slots=True)
class Task:
    """Rows of a task, the module that evaluates it, and what a model needs for it.

    Attributes:
        schema: how rows are read.
        module: its `make` makes the evaluator.
        skills: any of these is enough.
        columns: sets of columns any of which is enough to see that rows are of this task.
        weak: the columns are part of other tasks' too; others come first.
    """

    schema: Schema[Any]
    module: str
    skills: tuple[Skill, ...]
    columns: tuple[frozenset[str], ...] = ()
    weak: bool = False

    @property
    def seen_by(self) -> tuple[frozenset[str], ...]:
        """The sets of columns, the schema's own where none are said."""
        return self.columns or (frozenset(self.schema.columns),)

    @property
    def labelled(self) -> bool:
        """Whether rows have labels, some of which a model may be unable to give."""
        return self.module in ("classify", "multi_label")


# What rows with a label that the model cannot give do: stop, or count as wrong.
UnknownLabels = Literal["stop", "wrong"]

_TAGGED = (frozenset({"tokens", "tags"}), frozenset({"text", "spans"}))
TASKS: Mapping[str, Task] = {
    "classify": Task(CLASSIFY, "classify", ("labels",)),
    "multi-label": Task(MULTI_LABEL, "multi_label", ("many labels",)),
    "score": Task(SCORE, "score", ("number",)),
    "infer": Task(INFER, "classify", ("labels",)),
    "paraphrase": Task(PARAPHRASE, "classify", ("labels",)),
    "tag": Task(TAG, "tag", ("tag",), _TAGGED),
    "answer": Task(ANSWER, "answer", ("answer",)),
    "similarity": Task(SIMILARITY, "similarity", ("embed", "number")),
    "bitext": Task(BITEXT, "bitext", ("embed",)),
    "rank": Task(RANK, "rank", ("embed",)),
    "rerank": Task(RANK, "rerank", ("rerank",)),
    "fill": Task(PLAIN_TEXT, "fill", ("fill",), weak=True),
}


def skills_of(bundle: Bundle) -> frozenset[Skill]:
    """What a model can do."""
    found: set[Skill] = set()
    names: tuple[Skill, ...] = ("tag", "answer", "embed", "rerank", "fill")
    found.update(name for name in names if name in bundle.tasks)
    if "classify" in bundle.tasks:
        head = bundle.head
        if head is not None:
            found.add("many labels" if head.get("multi_label") else "labels")
        else:
            activation = activation_of(bundle.raw_config, len(parse_labels(bundle.raw_config)))
            kinds: Mapping[str, Skill] = {"softmax": "labels", "sigmoid": "many labels"}
            found.add(kinds.get(activation, "number"))
    return frozenset(found)


def find_task(bundle: Bundle, columns: Collection[str], names: Mapping[str, str]) -> str:
    """The one task that both the model and the columns of the data fit.

    Args:
        bundle: the model.
        columns: the data's, under its own names.
        names: our name of a column → the data's, where they differ.

    Raises:
        DataError: none fits, or more than one; says what the model and the data fit.
    """
    skills = skills_of(bundle)
    known = {*columns, *(ours for ours, theirs in names.items() if theirs in columns)}
    by_data = {name: task for name, task in TASKS.items() if any(s <= known for s in task.seen_by)}
    fitting = {name: task for name, task in by_data.items() if skills & set(task.skills)}
    strong = [name for name, task in fitting.items() if not task.weak] or list(fitting)
    if len(strong) == 1:
        return strong[0]
    if strong:
        raise DataError(
            f"model and data fit several tasks: {', '.join(strong)}",
            hint=f"say which: --task {strong[0]}",
        )
    by_model = [name for name, task in TASKS.items() if skills & set(task.skills)]
    raise DataError(
        f"the data's columns ({', '.join(sorted(columns))}) fit "
        f"{', '.join(by_data) or 'no task'}; the model fits {', '.join(by_model) or 'none'}",
        hint="name columns with --column OURS=THEIRS; rows of each task are "
        + "; ".join(f"{name}: {', '.join(sorted(TASKS[name].seen_by[0]))}" for name in by_model),
    )


def make_evaluator(
    name: str,
    predictor: Predictor,
    files: Sequence[Table[Any]],
    *,
    seed: int = 0,
    unknown_labels: UnknownLabels = "stop",
) -> Evaluator:
    """The evaluator of a task, for one model and the rows it will be shown.

    Args:
        name: of the task.
        predictor: the model.
        files: the rows.
        seed: of all that is drawn.
        unknown_labels: what rows with a label that the model cannot give do: stop, or count as
            wrong.

    Raises:
        TaskError: the model has no head for it.
        DataError: rows that the model cannot answer, such as labels it does not know.
    """
    task, skills = TASKS[name], skills_of(predictor.bundle)
    if not skills & set(task.skills):
        raise TaskError(
            f"{name} needs a model that gives {' or '.join(task.skills)}",
            hint=f"this one gives {', '.join(sorted(skills)) or 'nothing'}",
        )
    module = importlib.import_module(f"{__name__}.{task.module}")
    said = {} if unknown_labels == "stop" else {"unknown_labels": unknown_labels}
    if said and not task.labelled:
        raise DataError(f"{name} knows no labels that could be unknown")
    evaluator: Evaluator = module.make(predictor, files, seed=seed, **said)
    return evaluator


__all__ = [
    "TASKS",
    "Answered",
    "Evaluation",
    "Evaluator",
    "Judged",
    "Labelled",
    "Skill",
    "Task",
    "UnknownLabels",
    "find_task",
    "make_evaluator",
    "skills_of",
    "values_by_language",
]
