"""Texts become encodings; a text that cannot is set aside instead of failing its neighbours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xlmr.errors import InputError

if TYPE_CHECKING:
    from xlmr.model.predictor import Predictor
    from xlmr.model.prepared import Options, Prepared
    from xlmr.text.tokenizer import Tokenizer

# A text, or token ids of the model's own vocabulary.
Item = str | Sequence[int]

_OF_ONE_ITEM = re.compile(r"\$\[\d+\]")


@dataclass(frozen=True, slots=True)
class Part:
    """Prepared items, where they stand in the request, and their texts."""

    prepared: Prepared[Any]
    places: tuple[int, ...]
    texts: tuple[str, ...]


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
        InputError: the options are wrong, whatever the text.
    """
    texts = _texts(items, faults, predictor.bundle.tokenizer)
    places = [place for place, fault in enumerate(faults) if fault is None]
    if not places:
        return []
    try:
        return [_part(predictor, task, texts, options, places)]
    except InputError as error:
        if not _OF_ONE_ITEM.match(error.path):
            raise
    parts = []
    for place in places:
        try:
            parts.append(_part(predictor, task, texts, options, [place]))
        except InputError as error:
            faults[place] = moved(error, _OF_ONE_ITEM.sub(f"$[{place}]", error.path, count=1))
    return parts


def moved(error: InputError, path: str) -> InputError:
    """The same error, pointing elsewhere."""
    return type(error)(error.message, path=path, hint=error.hint)


def _part(
    predictor: Predictor, task: str, texts: Sequence[str], options: Options, places: Sequence[int]
) -> Part:
    chosen = tuple(texts[place] for place in places)
    return Part(predictor.prepare(task, chosen, options), tuple(places), chosen)


def _texts(
    items: Sequence[Item], faults: list[InputError | None], tokenizer: Tokenizer
) -> list[str]:
    """Token ids as the text they stand for, so that prompts and limits apply as to any text."""
    texts = []
    for place, item in enumerate(items):
        if isinstance(item, str):
            texts.append(item)
            continue
        size = tokenizer.vocabulary_size
        wrong = next((i for i, id in enumerate(item) if not 0 <= id < size), None)
        if wrong is not None and faults[place] is None:
            faults[place] = InputError(
                f"expected token ids of this model, 0 to {size - 1}", path=f"$[{place}][{wrong}]"
            )
        texts.append("" if faults[place] is not None else tokenizer.decode(item))
    return texts
