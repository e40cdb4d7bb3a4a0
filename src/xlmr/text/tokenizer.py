"""Text or pair → `Encoding`: ids, offsets, truncation. And which tokenizer it was.

    single   <s> A </s>
    pair     <s> A </s></s> B </s>

The pieces come from the `tokenizers` library. Four things are done here instead, because the
library's way of doing them would be silent or wrong:

- Truncation and padding stored in the file are switched off; cutting is done and counted here.
- Offsets are put right: a token's span is the piece one can see, without the space in front of it
  and with the accents that were composed into it; a bare `▁` has an empty span.
- Blanks at the ends of a text, and the blank before `<mask>`, make no token: SentencePiece, which
  the models were trained with, drops them.
- `<s>`, `<pad>` and `</s>` written in a text are read as `<unk>`: a caller cannot end a segment
  from inside it. `<mask>` stays `<mask>`.
"""

from __future__ import annotations

import hashlib
import sys
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn

from xlmr.errors import InputError, ModelRefusedError
from xlmr.text.tokenizer_file import (
    SPECIAL_IDS,
    TokenizerFile,
    blank_characters,
    open_library,
    parse_tokenizer,
    read_tokenizer_bytes,
)
from xlmr.types import Encoding

SINGLE_SPECIALS = 2
PAIR_SPECIALS = 4

_BOS, _EOS, _UNKNOWN = SPECIAL_IDS["<s>"], SPECIAL_IDS["</s>"], SPECIAL_IDS["<unk>"]
_SPACE = "▁"
# `encode` holds the interpreter lock and `encode_batch` gives it back, for the price of a trip to
# another thread. 4,096 characters are about a millisecond.
_LONG_CHARACTERS = 4096

_NO_LIMIT = sys.maxsize

# By the digest of the file, and by what it holds. To open one stops everybody for most of a second,
# and it takes a hundred megabytes; the versions of a model have the same.
_OPEN: weakref.WeakValueDictionary[bytes | TokenizerFile, Tokenizer] = weakref.WeakValueDictionary()

_Span = tuple[int, int]
_NOWHERE: _Span = (0, 0)


class _Tokens(NamedTuple):
    """One text's tokens without special ones, and the library's offsets into `text`.

    `text` is the caller's without the blanks at its ends; `shift` of them stood before it.
    """

    text: str
    shift: int
    ids: list[int]
    offsets: list[_Span]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Tokenizer:
    """XLM-R's tokenizer. Immutable; any number of threads may use it at once.

    Attributes:
        max_tokens: most tokens the model reads, special tokens included.
        fingerprint: SHA-256, hex, of everything that decides ids: pieces, scores, normalisation,
            splitting, post-processor, special tokens. Neither the file's formatting nor its stored
            padding and truncation count.
        vocabulary_size: number of pieces, special ones included.
        mask_id: id of `<mask>`.
    """

    bos_id: ClassVar[int] = SPECIAL_IDS["<s>"]
    pad_id: ClassVar[int] = SPECIAL_IDS["<pad>"]
    eos_id: ClassVar[int] = SPECIAL_IDS["</s>"]
    unk_id: ClassVar[int] = SPECIAL_IDS["<unk>"]

    max_tokens: int
    fingerprint: str
    vocabulary_size: int
    mask_id: int
    _library: Any = field(repr=False)
    _space_id: int | None = field(repr=False)
    _blanks: str = field(repr=False)

    @classmethod
    def from_file(cls, path: Path, *, max_tokens: int) -> Tokenizer:
        """Reads a `tokenizer.json`; the same content is read once, as long as somebody has it.

        Args:
            path: the file.
            max_tokens: most tokens the model reads: position rows minus two, so 512 for 514.

        Raises:
            ModelRefusedError: no such file, malformed, or not an XLM-R tokenizer; names the field.
        """
        raw = read_tokenizer_bytes(path)
        if max_tokens <= PAIR_SPECIALS:
            raise ModelRefusedError(f"{max_tokens} is too few to hold a text", field="max_tokens")
        digest = hashlib.sha256(raw).digest()
        tokenizer = _OPEN.get(digest)
        if tokenizer is None:
            content = parse_tokenizer(raw)
            tokenizer = _OPEN.get(content) or cls._opened(raw, content, max_tokens)
            _OPEN[digest] = _OPEN[content] = tokenizer
        same = tokenizer.max_tokens == max_tokens
        return tokenizer if same else replace(tokenizer, max_tokens=max_tokens)

    @classmethod
    def _opened(cls, raw: bytes, content: TokenizerFile, max_tokens: int) -> Tokenizer:
        library = open_library(raw)
        return cls(
            max_tokens=max_tokens,
            fingerprint=content.fingerprint,
            vocabulary_size=library.get_vocab_size(with_added_tokens=True),
            mask_id=library.token_to_id("<mask>"),
            _library=library,
            _space_id=library.token_to_id(_SPACE),
            _blanks="".join(blank_characters(library.normalizer)),
        )

    def encode(
        self, text: str, pair: str | None = None, *, max_tokens: int | None = None
    ) -> Encoding:
        """Encodes a text or a pair, cut to `max_tokens` (the model's own limit where None).

        A single text loses its end. Of a pair the longer text loses its end until both are equally
        long, then both do; special tokens are never cut. `total_tokens` is the length before.

        Raises:
            InputError: a text that is not Unicode text (a lone surrogate), or a limit the model
                does not have or that has no room for the special tokens.
        """
        limit = self._limit(max_tokens, SINGLE_SPECIALS if pair is None else PAIR_SPECIALS)
        return self._encode(text, pair, limit)

    def encode_whole(self, text: str, pair: str | None = None) -> Encoding:
        """Encodes without cutting, however long: what `xlmr.text.window.windows` takes.

        Raises:
            InputError: as `encode`.
        """
        return self._encode(text, pair, _NO_LIMIT)

    def encode_many(
        self, items: Sequence[str | tuple[str, str]], *, max_tokens: int | None = None
    ) -> list[Encoding]:
        """`encode` for each text or pair, faster than one at a time.

        Raises:
            InputError: as `encode`; its `path` is that of the first item at fault, `$[3]`.
        """
        pairs = any(isinstance(item, tuple) for item in items)
        limit = self._limit(max_tokens, PAIR_SPECIALS if pairs else SINGLE_SPECIALS)
        return self._encode_items(items, limit)

    def encode_many_whole(self, items: Sequence[str | tuple[str, str]]) -> list[Encoding]:
        """`encode_whole` for each text or pair, faster than one at a time.

        Raises:
            InputError: as `encode_many`.
        """
        return self._encode_items(items, _NO_LIMIT)

    def count(self, text: str) -> int:
        """How many tokens the whole text makes, special tokens included.

        Raises:
            InputError: as `encode`.
        """
        return SINGLE_SPECIALS + len(self._read([text], "$")[0].ids)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text that ids stand for, as normalised; special tokens (and `<unk>`) say nothing.

        With `skip_special=False` they stand in it under their names.

        Raises:
            InputError: an id outside the vocabulary.
        """
        known = list(ids)
        for index, token in enumerate(known):
            if not 0 <= token < self.vocabulary_size:
                self._refuse_id(token, f"$[{index}]")
        text: str = self._library.decode(known, skip_special_tokens=skip_special)
        return text

    def piece(self, id: int) -> str:
        """The piece of an id, `▁` standing for a space.

        Raises:
            InputError: an id outside the vocabulary.
        """
        piece = self._library.id_to_token(id) if 0 <= id < self.vocabulary_size else None
        if piece is None:
            self._refuse_id(id, "$")
        return str(piece)

    def piece_id(self, piece: str) -> int | None:
        """The id of a piece, None where the vocabulary has no such piece."""
        if _lone_surrogate(piece) is not None:
            return None
        id: int | None = self._library.token_to_id(piece)
        return id

    def _limit(self, max_tokens: int | None, specials: int) -> int:
        if max_tokens is None:
            return self.max_tokens
        if not specials <= max_tokens <= self.max_tokens:
            raise InputError(
                f"max_tokens is {max_tokens}; expected {specials} to {self.max_tokens}",
                hint="the special tokens count, and the model has no positions beyond its limit",
            )
        return max_tokens

    def _encode(self, text: str, pair: str | None, limit: int) -> Encoding:
        if pair is None:
            return self._single(self._read([text], "$")[0], limit)
        first, second = self._read([text, pair], "$[{}]")
        return self._pair(first, second, limit)

    def _encode_items(self, items: Sequence[str | tuple[str, str]], limit: int) -> list[Encoding]:
        texts: list[str] = []
        for index, item in enumerate(items):
            if not isinstance(item, tuple):
                texts.append(item)
            elif len(item) == 2:
                texts += item
            else:
                raise InputError(f"{len(item)} texts; expected one or two", path=f"$[{index}]")
        if len(texts) == len(items):
            return [self._single(tokens, limit) for tokens in self._read(texts, "$[{}]")]
        try:
            tokens = iter(self._read(texts, "{}"))
        except InputError as error:
            # The flat place among all texts becomes the place in the caller's list.
            raise InputError(
                error.message, path=_item_path(items, int(error.path)), hint=error.hint
            ) from None
        return [
            self._pair(next(tokens), next(tokens), limit)
            if isinstance(item, tuple)
            else self._single(next(tokens), limit)
            for item in items
        ]

    def _read(self, texts: list[str], path: str) -> list[_Tokens]:
        """The tokens of each text, without special ones; `path` is where a text came from."""
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                kind = type(text).__name__
                raise InputError(f"expected str, got {kind}", path=path.format(index))
        # SentencePiece drops blanks at both ends. The library would make a bare ▁ of those at the
        # end, and lose its place in the whole text over a control character at its head.
        stripped = [text.strip(self._blanks) for text in texts]
        try:
            if len(texts) == 1 and len(texts[0]) < _LONG_CHARACTERS:
                encoded = [self._library.encode(stripped[0], add_special_tokens=False)]
            else:
                encoded = self._library.encode_batch(stripped, add_special_tokens=False)
        except TypeError:
            # The error is raised below, where it has no context that could carry the text.
            encoded = None
        if encoded is None:
            _refuse_texts(texts, path)
        return [
            self._correct(_Tokens(core, text.find(core), tokens.ids, tokens.offsets))
            for text, core, tokens in zip(texts, stripped, encoded, strict=True)
        ]

    def _correct(self, tokens: _Tokens) -> _Tokens:
        """Reads written control tokens as unknown, and drops the bare `▁` before a `<mask>`."""
        ids, offsets = tokens.ids, tokens.offsets
        if ids and min(ids) < _UNKNOWN:
            ids = [max(id, _UNKNOWN) for id in ids]
        elif self.mask_id not in ids:
            return tokens
        following = [*ids[1:], None]
        kept = [
            index
            for index, (id, after) in enumerate(zip(ids, following, strict=True))
            if not (id == self._space_id and after == self.mask_id)
        ]
        return tokens._replace(ids=[ids[i] for i in kept], offsets=[offsets[i] for i in kept])

    def _single(self, tokens: _Tokens, limit: int) -> Encoding:
        """`<s> A </s>`, at most `limit` tokens long."""
        ids = tokens.ids[: limit - SINGLE_SPECIALS]
        return Encoding(
            ids=(_BOS, *ids, _EOS),
            offsets=(_NOWHERE, *self._spans(tokens, len(ids)), _NOWHERE),
            segments=(-1, *[0] * len(ids), -1),
            total_tokens=len(tokens.ids) + SINGLE_SPECIALS,
            unknown=ids.count(_UNKNOWN),
        )

    def _pair(self, first: _Tokens, second: _Tokens, limit: int) -> Encoding:
        """`<s> A </s></s> B </s>`, at most `limit` tokens long."""
        length, other_length = len(first.ids), len(second.ids)
        kept, other_kept = _share(length, other_length, limit - PAIR_SPECIALS)
        ids, other_ids = first.ids[:kept], second.ids[:other_kept]
        between = [_NOWHERE, _NOWHERE]
        spans = [*self._spans(first, kept), *between, *self._spans(second, other_kept)]
        return Encoding(
            ids=(_BOS, *ids, _EOS, _EOS, *other_ids, _EOS),
            offsets=(_NOWHERE, *spans, _NOWHERE),
            segments=(-1, *[0] * kept, -1, -1, *[1] * other_kept, -1),
            total_tokens=length + other_length + PAIR_SPECIALS,
            unknown=ids.count(_UNKNOWN) + other_ids.count(_UNKNOWN),
        )

    def _spans(self, tokens: _Tokens, length: int) -> list[_Span]:
        """The first `length` tokens' spans: only what one can see of the piece, and all of it."""
        text, blanks, space_id = tokens.text, self._blanks, self._space_id
        spans = []
        for id, span in zip(tokens.ids[:length], tokens.offsets, strict=False):
            start, end = span
            if start < end and text[start] in blanks:
                start += 1
                while start < end and text[start] in blanks:
                    start += 1
                span = start, end
            # A ▁ put before a text that has no space there is given its neighbour's character.
            spans.append((start, start) if id == space_id else span)
        if not text.isascii():
            _take_in_composed(spans, tokens, blanks, space_id)
        if shift := tokens.shift:
            return [(start + shift, end + shift) for start, end in spans]
        return spans

    def _refuse_id(self, id: int, path: str) -> NoReturn:
        raise InputError(
            f"{id} is no token id; expected 0 to {self.vocabulary_size - 1}", path=path
        )


def _take_in_composed(
    spans: list[_Span], tokens: _Tokens, blanks: str, space_id: int | None
) -> None:
    """Gives each token the characters that normalisation composed into its last one.

    The library's span of an `é` that is written as two characters covers the `e` alone.
    """
    text = tokens.text
    starts = [start for start, _ in tokens.offsets[1 : len(spans) + 1]]
    starts.append(len(text))
    for index, (start, end) in enumerate(spans):
        if end < starts[index] and tokens.ids[index] != space_id and text[end] not in blanks:
            while end < starts[index] and text[end] not in blanks:
                end += 1
            spans[index] = start, end


def _share(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens each text keeps: the longer one is cut first, then both alike."""
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    return (shorter, room - shorter) if first < second else (room - shorter, shorter)


def _item_path(items: Sequence[str | tuple[str, str]], flat: int) -> str:
    """`$[3]` or `$[3][1]`: the place of the text that is number `flat` among all texts."""
    places: list[str] = []
    for index, item in enumerate(items):
        pair = isinstance(item, tuple)
        places += [f"$[{index}][0]", f"$[{index}][1]"] if pair else [f"$[{index}]"]
    return places[flat]


def _lone_surrogate(text: str) -> int | None:
    """Index of the first character that is half of a surrogate pair, None where there is none."""
    return next((i for i, char in enumerate(text) if "\ud800" <= char <= "\udfff"), None)


def _refuse_texts(texts: Sequence[str], path: str) -> NoReturn:
    for place, text in enumerate(texts):
        index = _lone_surrogate(text)
        if index is not None:
            raise InputError(
                f"character {index} is a lone surrogate, which no encoding can carry",
                path=path.format(place),
                hint="decode the text with errors='replace' where it comes from",
            )
    raise InputError("a text cannot be encoded")
