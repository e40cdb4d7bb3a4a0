"""Texts become encodings; a text that cannot is set aside instead of failing its neighbours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from xlmr.errors import InputError, TooLongError
from xlmr.model.prepared import ClassifyOptions, Options, RerankOptions, ZeroShotOptions
from xlmr.types import Ranked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xlmr.model.predictor import Predictor
    from xlmr.model.prepared import Array, Prepared
    from xlmr.text.tokenizer import Tokenizer

# A text, a pair of texts, the words of one text, or token ids of the model's own vocabulary. Pairs
# are tuples, so that two words are never taken for two texts.
Item = str | tuple[str, str] | Sequence[str] | Sequence[int]

# A text read with each of a list of labels, or each document with one query, multiplies a small
# body. More readings than this fit in no queue, so they are refused before they are made.
MOST_READINGS = 4096
# A mask costs a product with the whole vocabulary: tens of milliseconds.
MOST_MASKS = 64

_OF_ONE_ITEM = re.compile(r"\$\[\d+\]")


@dataclass(frozen=True, slots=True)
class Part:
    """Prepared items, where they stand in the request, and their texts, by which to tell languages.

    The texts of a pair are joined by a line break, words by spaces.
    """

    prepared: Prepared[Any]
    places: tuple[int, ...]
    texts: tuple[str, ...]

    def finish(self, vectors: Iterable[Array]) -> list[Any]:
        """One answer for each place, in the order of the places, of vectors in their own."""
        answers = self.prepared.finish(vectors)
        if answers and isinstance(answers[0], Ranked):
            answers.sort(key=lambda ranked: ranked.index)
        return answers


def prepare(
    predictor: Predictor,
    task: str,
    items: Sequence[Item],
    options: Options,
    faults: list[InputError | None],
) -> list[Part]:
    """Prepares every item that has no fault yet; writes the faults it finds into `faults`.

    One part where all is well. Where a text is refused they are prepared one by one.

    Raises:
        InputError: the options are wrong, whatever the text; or more masks than are filled.
    """
    _check_languages(items, options)
    readable = _readable(items, faults, predictor.bundle.tokenizer)
    places = [place for place, fault in enumerate(faults) if fault is None]
    parts = _parts(predictor, task, readable, options, faults, places) if places else []
    if task == "fill":
        _check_masks(parts, predictor.bundle.tokenizer.mask_id)
    return parts


def moved(error: InputError, path: str) -> InputError:
    """The same error, pointing elsewhere."""
    return type(error)(error.message, path=path, hint=error.hint)


def size_of(item: Item) -> int:
    """Characters of an item, all its texts together; of token ids their number."""
    if isinstance(item, str) or not item or isinstance(item[0], int):
        return len(item)
    return sum(len(text) for text in item if isinstance(text, str))


def reading_size(items: Sequence[Item], options: object) -> int:
    """Characters a request has read: a query counts once for each document.

    Raises:
        InputError: more readings than any queue holds.
    """
    size = sum(map(size_of, items))
    if isinstance(options, RerankOptions):
        return size + len(items) * len(options.query)
    if isinstance(options, ZeroShotOptions):
        readings = len(items) * len(options.labels)
        if readings > MOST_READINGS:
            raise InputError(
                f"{len(items)} texts with {len(options.labels)} labels are {readings} readings; "
                f"at most {MOST_READINGS} are taken",
                path="$.labels",
                hint="send fewer texts or labels at once",
            )
        return size + sum(map(len, options.labels)) + len(options.labels) * len(options.template)
    return size


def check_options(options: object, max_chars: int) -> None:
    """Holds texts that stand in options to the limit of any text.

    Raises:
        TooLongError: the query is longer.
    """
    if isinstance(options, RerankOptions) and len(options.query) > max_chars:
        raise TooLongError(
            f"length {len(options.query)}; at most {max_chars} characters are read", path="$.query"
        )


def joined(item: Item) -> str:
    """An item as one text, by which its language can be told; token ids as numbers."""
    if isinstance(item, str):
        return item
    return ("\n" if isinstance(item, tuple) else " ").join(map(str, item))


def _parts(
    predictor: Predictor,
    task: str,
    readable: Sequence[Any],
    options: Options,
    faults: list[InputError | None],
    places: Sequence[int],
) -> list[Part]:
    try:
        return [_part(predictor, task, readable, options, places)]
    except InputError as error:
        if not _OF_ONE_ITEM.match(error.path):
            raise
    parts = []
    for place in places:
        try:
            parts.append(_part(predictor, task, readable, options, [place]))
        except InputError as error:
            if not _OF_ONE_ITEM.match(error.path):
                raise
            faults[place] = moved(error, _OF_ONE_ITEM.sub(f"$[{place}]", error.path, count=1))
    return parts


def _part(
    predictor: Predictor, task: str, items: Sequence[Any], options: Options, places: Sequence[int]
) -> Part:
    chosen = tuple([items[place] for place in places])
    if isinstance(options, ClassifyOptions) and options.languages is not None:
        options = replace(options, languages=[options.languages[place] for place in places])
    prepared = predictor.prepare(task, chosen, options)
    return Part(prepared, tuple(places), tuple(map(joined, chosen)))


def _readable(
    items: Sequence[Item], faults: list[InputError | None], tokenizer: Tokenizer
) -> Sequence[Any]:
    """Token ids as the text they stand for, so that prompts and limits apply as to any text."""
    if all(isinstance(item, str) for item in items):
        return items
    readable: list[Any] = []
    for place, item in enumerate(items):
        if isinstance(item, str | tuple) or (item and isinstance(item[0], str)):
            readable.append(item)
            continue
        size = tokenizer.vocabulary_size
        ids: Any = item
        wrong = next((i for i, id in enumerate(ids) if not 0 <= id < size), None)
        if wrong is not None and faults[place] is None:
            faults[place] = InputError(
                f"expected token ids of this model, 0 to {size - 1}", path=f"$[{place}][{wrong}]"
            )
        readable.append("" if faults[place] is not None else tokenizer.decode(ids))
    return readable


def _check_languages(items: Sequence[Item], options: Options) -> None:
    """Once for all items: prepared one by one, each would find a list of its own length."""
    said = options.languages if isinstance(options, ClassifyOptions) else None
    if said is not None and len(said) != len(items):
        raise InputError(f"expected {len(items)} in a list", path="$.languages")


def _check_masks(parts: Sequence[Part], mask_id: int) -> None:
    masks = sum(e.ids.count(mask_id) for part in parts for e in part.prepared.encodings)
    if masks > MOST_MASKS:
        raise InputError(
            f"{masks} masks in one request; at most {MOST_MASKS} are filled",
            hint="send fewer texts at once",
        )
