"""Masked language modelling: words are hidden, whole, and the network says what stood there.

For an encoder that shall read a new domain or language before it learns a task there. Of the
hidden words 80 % become `<mask>`, 10 % other pieces, and 10 % stay as they are (Devlin et al. 2019;
whole words as in the later releases of BERT).

The head is the encoder's own where its directory holds one. Otherwise it starts anew: dense layer
from random weights by the run's seed, bias of the pieces 0, and the word embeddings as its last
matrix, as always. Then the first few hundred steps teach the head rather than the encoder.

Shapes: B features of a batch, L tokens of the longest, P hidden places of a batch, V vocabulary,
D hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import DataError
from xlmr.evaluation.suites import TextRow
from xlmr.model.bundle import Bundle
from xlmr.model.sentences import MODULES
from xlmr.text.tokenizer import Tokenizer
from xlmr.training.data import Examples
from xlmr.training.networks import load_network, padded, save_network
from xlmr.training.objective import Feature
from xlmr.training.packing import NO_WORD, pack
from xlmr.training.recipe import Recipe
from xlmr.training.sentence_vectors import write_sentence_files

_MASKED, _REPLACED = 0.8, 0.1
_SPECIAL_IDS = 4  # <s>, <pad>, </s>, <unk>
# Dev words are hidden by these, whatever the seed of a run: runs can be compared.
_DEV_SEED = 20_190_521


def make(bundle: Bundle, recipe: Recipe, examples: Examples) -> Fill:
    """The objective of `fill`."""
    return Fill(bundle, recipe)


class Fill:
    """See the module.

    A feature to learn from has its words' numbers as target (see `Packed`); one to be scored on has
    the hidden places and what stood there.
    """

    metric = "masked_accuracy"
    chance: float | None = None

    def __init__(self, bundle: Bundle, recipe: Recipe) -> None:
        self.bundle = bundle
        self._share = recipe.fill.masked
        self._limit = min(recipe.run.max_tokens, bundle.tokenizer.max_tokens)
        self._places_P: Any = None

    def encode(self, rows: Sequence[TextRow], *, learn: bool) -> list[Feature]:
        """Features of `run.max_tokens`, each of one language; words are hidden when they are used.

        Raises:
            DataError: rows without a single known word.
        """
        places: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            places.setdefault(row.language, []).append(i)
        features: list[Feature] = []
        for language, here in places.items():
            texts = [rows[i].text for i in here]
            before = len(features)
            for packed in pack(self.bundle.tokenizer, texts, max_tokens=self._limit):
                words_L = _known(packed.ids, packed.words_L, self.bundle.tokenizer)
                if (words_L != NO_WORD).any():
                    place = here[packed.text]
                    features.append(Feature((packed.ids,), words_L, place, language))
            if len(features) == before:
                raise DataError(f"{language}: no text has a word that the tokenizer knows")
        return features if learn else [self._hidden(f, i) for i, f in enumerate(features)]

    def network(self) -> Any:
        """Hugging Face's masked language model, which computes pieces for hidden places only."""
        network = load_network(self.bundle, "MaskedLM")
        # Scores for 250,000 pieces at every token would cost more than the rest of the network.
        network.lm_head.register_forward_pre_hook(self._only_hidden)
        return network

    def weight(self, feature: Feature) -> float:
        """Its tokens: long features say more."""
        return float(feature.tokens)

    def loss(self, network: Any, batch: Sequence[Feature], random: np.random.Generator) -> Any:
        """Cross-entropy at the hidden places of words that `random` draws: their mean × tokens."""
        import torch

        tokenizer = self.bundle.tokenizer
        drawn = [hide(f.texts[0], f.target, tokenizer, self._share, random) for f in batch]
        ids, places = [ids_L.tolist() for ids_L, _ in drawn], [places for _, places in drawn]
        scores_PV = self._scores(network, ids, places)
        gold = [f.texts[0][i] for f, own in zip(batch, places, strict=True) for i in own]
        targets_P = torch.tensor(gold, device=scores_PV.device)
        losses_P = torch.nn.functional.cross_entropy(scores_PV, targets_P, reduction="none")
        shares = [
            np.full(len(own), self.weight(f) / len(own))
            for f, own in zip(batch, places, strict=True)
        ]
        # Not as a product of vectors, which mixed precision would round to bfloat16.
        return (losses_P * losses_P.new_tensor(np.concatenate(shares))).sum()

    def predict(self, network: Any, batch: Sequence[Feature]) -> Sequence[Any]:
        """How many of the hidden pieces are the likeliest at their place."""
        places = [f.target[0] for f in batch]
        scores_PV = self._scores(network, [f.texts[0] for f in batch], places)
        guesses_P = scores_PV.argmax(dim=1).cpu().numpy()
        parts = np.split(guesses_P, np.cumsum([len(own) for own in places])[:-1])
        return [int((part == f.target[1]).sum()) for part, f in zip(parts, batch, strict=True)]

    def score(
        self, rows: Sequence[Any], features: Sequence[Feature], outputs: Sequence[Any]
    ) -> Mapping[str, float]:
        """The share of hidden pieces that were found, by language."""
        found: dict[str, list[int]] = {}
        hidden: dict[str, int] = {}
        for feature, hits in zip(features, outputs, strict=True):
            found.setdefault(feature.language, []).append(hits)
            hidden[feature.language] = hidden.get(feature.language, 0) + len(feature.target[0])
        return {language: sum(found[language]) / hidden[language] for language in sorted(found)}

    def save(self, network: Any, directory: Path) -> None:
        """A Hugging Face masked language model, with the encoder's sentence files if it has any."""
        save_network(network, directory)
        if (self.bundle.directory / MODULES).exists():
            write_sentence_files(self.bundle, directory)

    def _hidden(self, feature: Feature, place: int) -> Feature:
        """A feature with the same words behind `<mask>` every time."""
        random = np.random.default_rng([_DEV_SEED, place])
        ids_L = np.array(feature.texts[0], np.int64)
        places = drawn_places(feature.target, self._share, random)
        target = (places, ids_L[places])
        ids_L[places] = self.bundle.tokenizer.mask_id
        return Feature((tuple(ids_L.tolist()),), target, feature.row, feature.language)

    def _scores(
        self,
        network: Any,
        texts: Sequence[Sequence[int]],
        places: Sequence[NDArray[np.int64]],
    ) -> Any:
        """The scores of every piece at the hidden places of each text in order, [P, V], float32."""
        import torch

        inputs = padded(texts, network)
        longest = inputs["input_ids"].shape[1]
        flat = np.concatenate([own + b * longest for b, own in enumerate(places)])
        self._places_P = torch.from_numpy(flat).to(inputs["input_ids"].device)
        return network(**inputs).logits.float()

    def _only_hidden(self, head: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the head reads: the vectors of hidden places, [P, D], instead of all [B, L, D]."""
        (hidden_BLD,) = inputs
        return (hidden_BLD.flatten(0, 1)[self._places_P],)


def hide(
    ids: Sequence[int],
    words_L: NDArray[np.int32],
    tokenizer: Tokenizer,
    share: float,
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hides words: the ids as the network reads them, and the places it has to say something of.

    A word meets one fate with all its pieces: hidden, replaced by others, or left as it is.
    """
    places = drawn_places(words_L, share, random)
    ids_L = np.array(ids, np.int64)
    drawn, of_word = np.unique(words_L[places], return_inverse=True)
    fate = random.random(len(drawn))[of_word]
    others = random.integers(_SPECIAL_IDS, tokenizer.vocabulary_size - 1, len(places))
    others += others >= tokenizer.mask_id  # which is no piece of any word
    masked, replaced = fate < _MASKED, fate >= 1.0 - _REPLACED
    ids_L[places[masked]] = tokenizer.mask_id
    ids_L[places[replaced]] = others[replaced]
    return ids_L, places


def drawn_places(
    words_L: NDArray[np.int32], share: float, random: np.random.Generator
) -> NDArray[np.int64]:
    """Rising places of the tokens of a share of the words, of at least one."""
    words = np.unique(words_L[words_L != NO_WORD])
    count = max(1, round(share * len(words)))
    drawn = random.choice(words, count, replace=False)
    places: NDArray[np.int64] = np.flatnonzero(np.isin(words_L, drawn))
    return places


def _known(
    ids: Sequence[int], words_L: NDArray[np.int32], tokenizer: Tokenizer
) -> NDArray[np.int32]:
    """Words with a piece that the vocabulary lacks, or a `<mask>`, cannot be guessed: no words."""
    unknown = np.unique(words_L[np.isin(ids, (tokenizer.unk_id, tokenizer.mask_id))])
    kept: NDArray[np.int32] = np.where(np.isin(words_L, unknown), np.int32(NO_WORD), words_L)
    return kept
