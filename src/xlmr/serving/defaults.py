"""What is meant where a protocol names no model, or no task: its clients know neither.

A model's main task is what it was trained for last: whatever has a head is more than an encoder.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from xlmr.errors import InputError, TaskError
from xlmr.serving.pool import Pool

# Zero-shot is never meant: it needs labels, and its models classify as well.
_MAIN = ("rerank", "classify", "tag", "answer", "fill", "embed")


def main_task(tasks: AbstractSet[str]) -> str:
    """What a model of these tasks is for."""
    return next(task for task in _MAIN if task in tasks)


def meant_model(pool: Pool, model: str | None, task: str) -> str | None:
    """The model a question for a task should name: the given one, or the one made for the task.

    None where several were made for it, or none: the route then says what is wrong.
    """
    if model is not None:
        return model
    able = [served for served in pool.models.values() if task in served.tasks]
    if len(able) > 1:
        able = [served for served in able if main_task(served.tasks) == task]
    return able[0].ref.name if len(able) == 1 else None


def any_model(pool: Pool, model: str | None) -> str | None:
    """The given model; or where all that are loaded read texts alike, any of them."""
    if model is not None:
        return model
    served = list(pool.models.values())
    alike = {one.predictor.bundle.tokenizer.fingerprint for one in served}
    return served[0].ref.name if len(alike) == 1 else None


def meant_task(pool: Pool, model: str | None) -> str:
    """The main task of the given model, or of the only one loaded.

    Where several are loaded it is the task that all of them are for, or else to embed.

    Raises:
        ModelNotFoundError: no model of that name.
        UnavailableError: it is being loaded.
        TaskError: no model is loaded.
        InputError: several are, and none of them only embeds.
    """
    if model is not None or len(pool.models) == 1:
        return main_task(pool.route(model, None).tasks)
    mains = {main_task(served.tasks) for served in pool.models.values()}
    if not mains:
        raise TaskError("no model is loaded")
    if len(mains) == 1:
        return mains.pop()
    if "embed" in mains:
        return "embed"
    names = ", ".join(pool.models)
    raise InputError(f"several models are loaded: {names}", path="$.model", hint="name one")
