"""What figures are called where people read them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from xlmr.evaluation.translations import ToldBy

_SHARED: Mapping[ToldBy, str] = {
    "id": "with the same id",
    "english": "beside the same English sentence",
    "place": "at the same place of their files",
}
_NAMES = {
    "f1": "F1",
    "ece": "ECE",
    "brier": "Brier score",
    "auroc": "AUROC",
    "mrr": "MRR",
    "ndcg@10": "nDCG@10",
}


def in_words(figure: str) -> str:
    """The name of a figure as one reads it: `macro_f1` → `macro F1`."""
    # A label behind a colon stays as it is.
    name, colon, label = figure.partition(":")
    words = " ".join(_NAMES.get(word, word) for word in re.split("[_ ]", name))
    return words + (f" {label}" if colon else "")


def drawn_in_words(together: ToldBy | None) -> str:
    """What the interval of a macro difference takes for independent."""
    if together is None:
        return "The macro interval draws every row by itself."
    return f"The macro interval draws rows {_SHARED[together]} together, as translations."


def plain_figures(figures: Mapping[str, float]) -> dict[str, float]:
    """The figures that are not of one label alone."""
    return {name: value for name, value in figures.items() if ":" not in name}
