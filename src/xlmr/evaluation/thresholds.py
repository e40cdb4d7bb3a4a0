"""Where a label begins: a threshold for each label and language, at a stated target. Pure.

N rows, C labels. A language with too few rows that carry the label takes the threshold of all
languages together: a threshold fitted on a handful of rows is an accident.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xlmr.model.calibration import Target, Thresholds

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def fit_thresholds(
    probabilities_NC: Floats,
    gold_NC: Flags,
    *,
    languages: Sequence[str],
    labels: Sequence[str],
    target: Target,
    least_rows: int = 20,
) -> Thresholds:
    """Fits every label over all rows, then in each language with `least_rows` of either kind.

    Raises:
        ValueError: no rows, or shapes that do not fit together.
    """
    if not len(languages) or probabilities_NC.shape != (len(languages), len(labels)):
        raise ValueError(
            f"{probabilities_NC.shape} for {len(languages)} rows, {len(labels)} labels"
        )
    if probabilities_NC.shape != gold_NC.shape:
        raise ValueError(f"{gold_NC.shape} gold, {probabilities_NC.shape} predicted")
    columns = dict(zip(labels, zip(probabilities_NC.T, gold_NC.T, strict=True), strict=True))
    language_N = np.array(languages)
    by_language: dict[str, dict[str, float | None]] = {}
    for language in sorted(set(languages)):
        here_N = language_N == language
        for label, (scores_N, gold_N) in columns.items():
            with_label = int(gold_N[here_N].sum())
            if min(with_label, int(here_N.sum()) - with_label) >= least_rows:
                fitted = best_threshold(scores_N[here_N], gold_N[here_N], target)
                by_language.setdefault(language, {})[label] = fitted
    return Thresholds(
        target=target,
        everywhere={label: best_threshold(*column, target) for label, column in columns.items()},
        by_language=by_language,
    )


def best_threshold(scores_N: Floats, gold_N: Flags, target: Target) -> float | None:
    """The threshold for one label; None where no row has it or the target is out of reach."""
    positives = int(gold_N.sum())
    if not positives:
        return None
    order_N = np.argsort(-scores_N, kind="stable")
    sorted_N = scores_N[order_N]
    last_of_tie = np.append(np.flatnonzero(np.diff(sorted_N)), len(sorted_N) - 1)
    hits = np.cumsum(gold_N[order_N])[last_of_tie]
    flagged = last_of_tie + 1
    if target.kind == "precision":
        reached = np.flatnonzero(hits / flagged >= target.value)
        chosen = reached[-1] if len(reached) else None
    elif target.kind == "recall":
        reached = np.flatnonzero(hits / positives >= target.value)
        chosen = reached[0] if len(reached) else None
    else:
        chosen = np.argmax(2.0 * hits / (flagged + positives))
    return None if chosen is None else float(sorted_N[last_of_tie[chosen]])
