"""The native door: one module a verb. It says of every text what became of it."""

from __future__ import annotations

from xlmr.serving.http.endpoint import Inference
from xlmr.serving.http.verbs.answer import ANSWER
from xlmr.serving.http.verbs.classify import CLASSIFY, ZERO_SHOT
from xlmr.serving.http.verbs.fill import FILL
from xlmr.serving.http.verbs.similarity import SIMILARITY
from xlmr.serving.http.verbs.tag import TAG
from xlmr.serving.http.verbs.tokenize import DETOKENIZE, TOKENIZE

OPERATIONS: tuple[Inference, ...] = (
    CLASSIFY,
    ZERO_SHOT,
    TAG,
    ANSWER,
    FILL,
    SIMILARITY,
    TOKENIZE,
    DETOKENIZE,
)
