"""Real texts, answered once by a real model and kept as numbers: what `drift_real.py` draws from.

    python benchmarks/drift_answers.py --model MODEL --data DATA --splits train test --trained en \\
        --treat typos=sw,de --treat stripped=vi --foreign fr=OTHER/fr.train.jsonl --out answers.npz

DATA holds `LANGUAGE.SPLIT.jsonl`, rows with `text` and `label`. No text is kept, only what a server
would count of its answer, whether the answer was right, and the text's languages: the one that the
data set names, and the one that is identified.
"""

from __future__ import annotations

import argparse
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xlmr import load
from xlmr.drift.seeing import sight_of
from xlmr.drift.signals import Sight
from xlmr.evaluation.slices import transliterate, with_typos
from xlmr.model.predictor import Predictor
from xlmr.text.codes import short_code
from xlmr.text.language import identify_many
from xlmr.types import Classification

PLAIN, FOREIGN = "plain", "foreign"
_AT_ONCE = 64


def strip_marks(text: str) -> str:
    """What a client leaves of a text that decomposes letters and drops their marks."""
    apart = unicodedata.normalize("NFD", text)
    return "".join(letter for letter in apart if unicodedata.category(letter) != "Mn")


TREATMENTS: dict[str, Callable[[str], str]] = {
    "typos": with_typos,
    "stripped": strip_marks,
    "transliterated": transliterate,
}


@dataclass(frozen=True)
class Asked:
    """A text, and where it is from; no label where no label of the model is right."""

    text: str
    language: str
    split: str
    treatment: str
    label: str | None


@dataclass(frozen=True)
class Answered:
    """Answered texts, by column; one row each.

    Attributes:
        labels: those of the model.
        columns: `language`, `identified`, `split`, `treatment`, `truth` (place of the label, -1 for
            none), `right`, and the fields of `Sight`: `label` as a place, others as they are.
    """

    labels: tuple[str, ...]
    columns: dict[str, NDArray[np.generic]]

    def where(self, **wanted: str) -> NDArray[np.intp]:
        """Places of the rows with these values."""
        found = np.ones(len(self.columns["right"]), np.bool_)
        for name, value in wanted.items():
            found &= self.columns[name] == value
        return np.flatnonzero(found)

    def sight(self, place: int) -> Sight:
        """One row as a server counts it."""
        row = {name: self.columns[name][place].item() for name in Sight._fields}
        withheld = None if row["abstained"] < 0 else bool(row["abstained"])
        return Sight(**row | {"label": self.labels[row["label"]], "abstained": withheld})

    def save(self, path: Path) -> None:
        """Numbers and names only."""
        np.savez_compressed(path, labels=np.array(self.labels), **self.columns)

    @classmethod
    def load(cls, path: Path) -> Answered:
        """The reverse."""
        with np.load(path) as file:
            columns = {name: file[name] for name in file.files if name != "labels"}
            return cls(tuple(file["labels"].tolist()), columns)


def rows_of(data: Path, splits: Sequence[str], trained: Sequence[str]) -> Iterator[Asked]:
    """Every distinct text of a language once, without those that the model was trained on."""
    for split in splits:
        for path in sorted(data.glob(f"*.{split}.jsonl")):
            language = short_code(path.name.partition(".")[0])
            if split != "train" or language not in trained:
                yield from _read(path, language, split, PLAIN)


def _read(path: Path, language: str, split: str, treatment: str) -> Iterator[Asked]:
    seen = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["text"].strip() and row["text"] not in seen:
            seen.add(row["text"])
            label = None if treatment == FOREIGN else row["label"]
            yield Asked(row["text"], language, split, treatment, label)


def treated(asked: Iterable[Asked], wanted: dict[str, set[str]]) -> Iterator[Asked]:
    """The texts as they are, and once more as something happened to them, where it changes them."""
    for one in asked:
        yield one
        for treatment, languages in wanted.items():
            text = TREATMENTS[treatment](one.text) if one.language in languages else one.text
            if text != one.text:
                yield Asked(text, one.language, one.split, treatment, one.label)


def answer(predictor: Predictor, asked: Sequence[Asked]) -> Answered:
    """Asks the model everything, as a caller who does not name languages."""
    found: list[tuple[object, ...]] = []
    names: tuple[str, ...] = ()
    for first in range(0, len(asked), _AT_ONCE):
        part = asked[first : first + _AT_ONCE]
        texts = [one.text for one in part]
        answers, languages = predictor.classify(texts), identify_many(texts)
        names = names or tuple(sorted(one.label for one in answers[0].labels))
        for one, given, language in zip(part, answers, languages, strict=True):
            known = (one.language, language.code, one.split, one.treatment)
            found.append((*known, *_numbers(one, given, names)))
    keys = ("language", "identified", "split", "treatment", "truth", "right", *Sight._fields)
    columns = dict(zip(keys, map(np.array, zip(*found, strict=True)), strict=True))
    return Answered(names, columns)


def _numbers(asked: Asked, given: Classification, names: tuple[str, ...]) -> tuple[object, ...]:
    truth = names.index(asked.label) if asked.label in names else -1
    sight = sight_of(given, len(asked.text), asked.text)
    said = names.index(given.label)
    withheld = -1 if sight.abstained is None else int(sight.abstained)
    return (
        truth,
        truth == said,
        *(sight._asdict() | {"label": said, "abstained": withheld}).values(),
    )


def _pairs(values: Sequence[str]) -> Iterator[tuple[str, str]]:
    for value in values:
        key, _, rest = value.partition("=")
        yield key, rest


def main() -> None:
    """Reads, asks, keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a classifier's directory")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--splits", nargs="+", default=["train", "test"])
    parser.add_argument("--trained", nargs="*", default=["en"], help="whose train rows it has seen")
    parser.add_argument("--treat", action="append", default=[], help="HOW=LANGUAGE,LANGUAGE")
    parser.add_argument("--foreign", action="append", default=[], help="LANGUAGE=FILE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    wanted = {how: set(codes.split(",")) for how, codes in _pairs(asked.treat)}
    texts = list(treated(rows_of(asked.data, asked.splits, asked.trained), wanted))
    for language, file in _pairs(asked.foreign):
        texts += _read(Path(file), language, FOREIGN, FOREIGN)
    predictor = load(asked.model, runtime="native", precision="int8", threads=asked.threads)
    answered = answer(predictor, texts)
    answered.save(asked.out)
    print(f"{len(texts):,} texts, {answered.columns['right'].mean():.3f} of the answers right")


if __name__ == "__main__":
    main()
