"""Numbers that say how right answers are. Pure: arrays in, numbers out; chance only as passed in.

N rows, C classes or labels, B bins, D vector width. Shares and scores are 0 to 1. Nothing has no
score: every function refuses empty input with a ValueError.
"""

from xlmr.evaluation.metrics.classification import accuracy, macro_f1
from xlmr.evaluation.metrics.intervals import bootstrap_interval

__all__ = ["accuracy", "bootstrap_interval", "macro_f1"]
