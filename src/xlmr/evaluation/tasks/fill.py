"""Masked words. Figure: the share of masked words of which every piece was the likeliest.

Words are masked whole, 15 % of each text's and at least one, drawn by the seed and the text. The
pseudo-perplexity is that of the masked pieces, all masked at once: lower than one at a time shows
it for good models, and comparable between models of one tokenizer only.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import DataError, TaskError
from xlmr.evaluation.suites import Table
from xlmr.evaluation.tasks.evaluator import Answered, Floats, Judged, chunks
from xlmr.model.heads.fill import FillHead
from xlmr.model.heads.words import words
from xlmr.model.predictor import Predictor
from xlmr.model.prepared import Prepared
from xlmr.types import Encoding

_SHARE = 0.15
_CHUNK_ROWS = 16
Places = tuple[tuple[int, ...], ...]
Array = NDArray[np.float32]


def make(predictor: Predictor, files: Sequence[Table[Any]], *, seed: int) -> Fill:
    """See the module.

    Raises:
        TaskError: the model has no head for masked words.
        DataError: no row has a word.
    """
    if "fill" not in predictor.tasks:
        raise TaskError("the model cannot fill", hint=f"it can: {', '.join(predictor.tasks)}")
    return Fill(predictor, seed)


class Fill:
    """Values: words found, words masked, negative log probability, pieces masked."""

    metric = "masked_word_accuracy"
    keeps_outcomes = False

    def __init__(self, predictor: Predictor, seed: int) -> None:
        bundle = predictor.bundle
        self._predictor = predictor
        self._seed = seed
        self._tokenizer = bundle.tokenizer
        self._head = FillHead.open(bundle.weights(), bundle.config)

    def answers(self, rows: Sequence[Any]) -> Iterator[Answered]:
        """The values themselves; a text without a word has nothing but zeros."""
        for chunk in chunks(rows, _CHUNK_ROWS):
            encodings = self._tokenizer.encode_many([row.text for row in chunk])
            masks = [self._masks(r.text, e) for r, e in zip(chunk, encodings, strict=True)]
            hidden = [
                self._masked(encoding, places)
                for encoding, places in zip(encodings, masks, strict=True)
            ]
            prepared: Prepared[Any] = Prepared(tuple(hidden), rows="all", finish=list)
            computed = self._predictor.compute(prepared)
            for row, encoding, places, hidden_LD in zip(
                chunk, encodings, masks, computed, strict=True
            ):
                found = self._score(encoding, places, hidden_LD)
                yield Answered(row, found, len(encoding.ids), encoding.truncated)

    def values(self, answered: Sequence[Answered]) -> Floats:
        """See the class, [N, 4].

        Raises:
            DataError: no text of the language has a word.
        """
        values_NK = np.array([answer.outcome for answer in answered], float)
        if not values_NK[:, 1].any():
            raise DataError(f"{answered[0].row.language}: no text has a word that could be masked")
        return values_NK

    def figures(self, values_NK: Floats, counts_SN: Floats) -> Floats:
        """Words found among words masked."""
        found_S, masked_S = (counts_SN @ values_NK[:, :2]).T
        share_S: Floats = found_S / np.maximum(masked_S, 1.0)
        return share_S

    def more(self, judged: Sequence[Judged]) -> Mapping[str, float]:
        """The pseudo-perplexity of the masked pieces."""
        _, _, surprise, pieces = np.sum([row.values for row in judged], axis=0)
        # A model that is certain and wrong would overflow; JSON knows no infinity.
        mean = min(surprise / max(pieces, 1.0), 700.0)
        return {"pseudo_perplexity": float(np.exp(mean))}

    def _masks(self, text: str, encoding: Encoding) -> Places:
        """The tokens of each word to be masked."""
        known = _words(text, encoding)
        if not known:
            return ()
        generator = np.random.default_rng([self._seed, zlib.crc32(text.encode())])
        count = max(1, round(_SHARE * len(known)))
        return tuple(known[i] for i in sorted(generator.choice(len(known), count, replace=False)))

    def _masked(self, encoding: Encoding, places: Iterable[Iterable[int]]) -> Encoding:
        ids = list(encoding.ids)
        for word in places:
            for place in word:
                ids[place] = self._tokenizer.mask_id
        return replace(encoding, ids=tuple(ids))

    def _score(self, encoding: Encoding, places: Places, hidden_LD: Array) -> tuple[float, ...]:
        right, surprise = 0, 0.0
        for word in places:
            hits = 0
            for place in word:
                logits_V = self._head.logits(hidden_LD[place]).astype(np.float64)
                most = logits_V.max()
                gold = encoding.ids[place]
                surprise += float(np.log(np.exp(logits_V - most).sum()) + most - logits_V[gold])
                hits += int(logits_V.argmax() == gold)
            right += hits == len(word)
        return right, len(places), surprise, sum(map(len, places))


def _words(text: str, encoding: Encoding) -> list[tuple[int, ...]]:
    """The tokens of each word that was read and has a letter or digit."""
    found = words(text, encoding.offsets)
    firsts = [word.first_token for word in found]
    known = []
    for word, after in zip(found, [*firsts[1:], len(encoding.ids) - 1], strict=True):
        # Tokens that show nothing, bare spaces, are not the word's.
        shown = [i for i in range(word.first_token, after) if encoding.offsets[i][0] < word.end]
        tokens = tuple(i for i in shown if encoding.offsets[i][0] < encoding.offsets[i][1])
        if tokens and any(map(str.isalnum, text[word.start : word.end])):
            known.append(tokens)
    return known
