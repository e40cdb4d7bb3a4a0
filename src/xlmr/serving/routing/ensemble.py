"""One answer out of several versions' answers: their probabilities, averaged by weight. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xlmr.errors import SettingsError, TaskError
from xlmr.model.heads.classify import entropy
from xlmr.model.prepared import ClassifyOptions
from xlmr.types import Accounting, Classification, LabelScore

if TYPE_CHECKING:
    from xlmr.serving.versions import Served

# Of the weights: from here on what versions say counts as said by the ensemble.
_HALF = 0.5


def check_alike(members: Iterable[Served | None]) -> None:
    """Refuses versions that do not give the same labels; those that are not loaded are left aside.

    Raises:
        SettingsError: names the two.
    """
    loaded = [served for served in members if served is not None]
    for served in loaded:
        first, ref = loaded[0], served.ref
        if "classify" not in served.tasks:
            raise SettingsError(
                f"{ref.name}@{ref.version} does not classify, and only labels can be averaged",
                hint="an ensemble is made of classifiers",
            )
        if set(served.predictor.bundle.labels) != set(first.predictor.bundle.labels):
            raise SettingsError(
                f"{ref.name}: versions {first.ref.version} and {ref.version} have other labels",
                hint="an ensemble needs versions with the same labels",
            )


def whole_options(name: str, task: str, options: Any) -> tuple[ClassifyOptions, int | None]:
    """What each version is asked, and how many labels the caller wants of the average.

    Each gives all of its labels: one's last may be another's first.

    Raises:
        TaskError: something that cannot be averaged was asked.
    """
    hint = f"ask one version: {name}@VERSION"
    if task != "classify" or not isinstance(options, ClassifyOptions):
        raise TaskError(f"{name} is an ensemble and cannot {task}", hint=hint)
    if options.raw_scores:
        raise TaskError(f"{name} is an ensemble: raw scores have no average", hint=hint)
    return replace(options, top=None), options.top


def averaged(
    answers: Sequence[Classification], weights: Sequence[float], *, top: int | None
) -> Classification:
    """The average of several versions' answers to one text.

    Labels and abstention that are each version's own verdict are the ensemble's where versions with
    half of the weight say so. Tokens are those of all versions.

    Args:
        answers: with all labels.
        weights: of the answers, above 0.
        top: how many labels are kept; None for all.

    Raises:
        TaskError: the versions do not have the same labels.
    """
    whole = math.fsum(weights)
    shares = [weight / whole for weight in weights]
    by_label = [{one.label: one.score for one in answer.labels} for answer in answers]
    if any(scores.keys() != by_label[0].keys() for scores in by_label):
        raise TaskError("the versions of this ensemble have other labels", hint="ask one of them")
    scores = {
        label: math.fsum(
            share * scores[label] for share, scores in zip(shares, by_label, strict=True)
        )
        for label in by_label[0]
    }
    first = answers[0]
    chosen = _chosen(answers, shares, scores)
    nats = None
    if all(answer.entropy is not None for answer in answers):
        nats = entropy(np.array(list(scores.values())), exclusive=chosen is None)
    abstained = [(answer.abstained, share) for answer, share in zip(answers, shares, strict=True)]
    ranked = sorted(scores, key=lambda label: -scores[label])
    return Classification(
        labels=tuple(LabelScore(label, scores[label]) for label in ranked[:top]),
        accounting=_together([answer.accounting for answer in answers]),
        language=first.language,
        calibrated=all(answer.calibrated for answer in answers),
        abstained=None
        if all(said is None for said, _ in abstained)
        else math.fsum(share for said, share in abstained if said) >= _HALF,
        chosen=chosen,
        entropy=nats,
    )


def _chosen(
    answers: Sequence[Classification], shares: Sequence[float], scores: Mapping[str, float]
) -> tuple[str, ...] | None:
    """Of labels that do not exclude each other, those that are given; else None."""
    if any(answer.chosen is None for answer in answers):
        return None
    votes = dict.fromkeys(scores, 0.0)
    for answer, share in zip(answers, shares, strict=True):
        for label in answer.chosen or ():
            votes[label] += share
    return tuple(label for label, share in votes.items() if share >= _HALF)


def _together(spent: Sequence[Accounting]) -> Accounting:
    return Accounting(
        tokens=sum(one.tokens for one in spent),
        total_tokens=max(one.total_tokens for one in spent),
        truncated=any(one.truncated for one in spent),
        windows=max(one.windows for one in spent),
        unknown=max(one.unknown for one in spent),
    )
