"""Texts as tokens and back, for callers who count, show or store them; no model is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from xlmr.errors import InputError, TooLongError
from xlmr.serving.preparation import joined, moved
from xlmr.types import Accounting, Encoding

if TYPE_CHECKING:
    from xlmr.model.bundle import Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeOptions:
    """For `tokenize`.

    Attributes:
        long: what becomes of texts longer than the model reads; `whole` leaves them uncut.
        prompt: name of the prompt put before each single text; None for the model's default, ""
            for none. Offsets then count from the prompt's first character.
    """

    long: Literal["truncate", "error", "whole"] = "truncate"
    prompt: str | None = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetokenizeOptions:
    """For `detokenize`; the items are lists of token ids.

    Attributes:
        skip_special: whether special tokens, `<unk>` included, say nothing.
    """

    skip_special: bool = True


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text or pair as tokens; `text` is what language is told by."""

    encoding: Encoding
    pieces: tuple[str, ...]
    text: str
    accounting: Accounting


@dataclass(frozen=True, slots=True)
class Detokenized:
    """The text that token ids stand for, as the tokenizer normalises it."""

    text: str
    accounting: Accounting


def tokenize(
    bundle: Bundle,
    items: Sequence[str | tuple[str, str]],
    options: TokenizeOptions,
    faults: list[InputError | None],
) -> list[Tokens | None]:
    """One entry per item, None where it has a fault; writes the faults it finds into `faults`.

    Raises:
        InputError: no such prompt.
    """
    try:
        prompt = bundle.prompt(options.prompt)
    except KeyError:
        raise InputError("the model has no prompt of that name", path="$.prompt") from None
    tokenizer = bundle.tokenizer

    def one(item: Any) -> Tokens:
        first, second = item if isinstance(item, tuple) else (prompt + item, None)
        whole = options.long != "truncate"
        encode = tokenizer.encode_whole if whole else tokenizer.encode
        encoding = encode(first, second)
        if options.long == "error" and len(encoding.ids) > tokenizer.max_tokens:
            raise TooLongError(
                f"{encoding.total_tokens} tokens; the model reads {tokenizer.max_tokens}",
                hint="shorten it, or ask for truncate or whole",
            )
        accounting = Accounting(
            tokens=len(encoding.ids),
            total_tokens=encoding.total_tokens,
            truncated=encoding.truncated,
            windows=1,
            unknown=encoding.unknown,
        )
        return Tokens(encoding, tuple(map(tokenizer.piece, encoding.ids)), joined(item), accounting)

    return _each(items, one, faults)


def detokenize(
    bundle: Bundle,
    items: Sequence[Sequence[int]],
    options: DetokenizeOptions,
    faults: list[InputError | None],
) -> list[Detokenized | None]:
    """One entry per list of ids, None where it has a fault, as `tokenize`."""
    tokenizer = bundle.tokenizer

    def one(ids: Sequence[int]) -> Detokenized:
        text = tokenizer.decode(ids, skip_special=options.skip_special)
        return Detokenized(
            text,
            Accounting(
                tokens=len(ids),
                total_tokens=len(ids),
                truncated=False,
                windows=1,
                unknown=sum(id == tokenizer.unk_id for id in ids),
            ),
        )

    return _each(items, one, faults)


def _each(
    items: Sequence[Any], one: Callable[[Any], Any], faults: list[InputError | None]
) -> list[Any]:
    """What `one` makes of every item that has no fault."""
    found: list[Any] = [None] * len(items)
    for place, item in enumerate(items):
        if faults[place] is not None:
            continue
        try:
            found[place] = one(item)
        except InputError as error:
            # `$[1]` of a pair keeps its place within the pair; a single text's `$` has none.
            faults[place] = moved(error, f"$[{place}]{error.path.removeprefix('$')}")
    return found
