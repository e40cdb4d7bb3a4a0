"""`sentencepiece.bpe.model` becomes `tokenizer.json`, without the sentencepiece package.

The model file is a protocol buffer; the few fields that matter are read here. XLM-R numbers the
pieces as fairseq did: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, then SentencePiece's pieces from
their fourth on, each one higher, and `<mask>` last.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import Unigram
from tokenizers.processors import TemplateProcessing

from xlmr.errors import ModelRefusedError

_FILE = "sentencepiece.bpe.model"
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_UNIGRAM = 1
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """What matters of a SentencePiece model.

    Attributes:
        pieces: text, log probability and type number of each, in order.
        charsmap: the compiled normalisation rules.
    """

    pieces: tuple[tuple[str, float, int], ...]
    charsmap: bytes


def parse_sentencepiece(content: bytes) -> SentencePieceModel:
    """Reads a SentencePiece model file.

    Raises:
        ModelRefusedError: damaged, not a unigram model, or normalising otherwise than XLM-R does.
    """
    pieces: list[tuple[str, float, int]] = []
    charsmap = b""
    try:
        for field, value in _fields(content):
            if field == 1:
                pieces.append(_piece(value))
            elif field == 2:
                kind = dict(_fields(value)).get(3, _UNIGRAM)
                if kind != _UNIGRAM:
                    raise _refused("trainer_spec.model_type", f"expected 1 (unigram), got {kind}")
            elif field == 3:
                charsmap = _normalizer(dict(_fields(value)))
    except (IndexError, TypeError, UnicodeDecodeError, struct.error) as fault:
        raise ModelRefusedError(f"not a SentencePiece model ({fault})", field=_FILE) from fault
    return SentencePieceModel(tuple(pieces), charsmap)


def build_tokenizer(model: SentencePieceModel) -> Tokenizer:
    """The tokenizer with XLM-R's ids, `<s> A </s>` and `<s> A </s></s> B </s>`.

    Raises:
        ModelRefusedError: the first pieces are not `<unk>`, `<s>`, `</s>`, as XLM-R's are.
    """
    first = [text for text, _, _ in model.pieces[:3]]
    if first != ["<unk>", "<s>", "</s>"]:
        raise _refused("pieces", f"expected <unk>, <s>, </s> first, got {', '.join(first)}")
    rest = model.pieces[3:]
    if any(kind == _UNUSED for _, _, kind in rest):
        raise _refused("pieces", "unused pieces have no counterpart in tokenizer.json")
    vocabulary = [(text, 0.0) for text in _SPECIAL]
    vocabulary += [(text, score) for text, score, _ in rest] + [("<mask>", 0.0)]
    has_bytes = any(kind == _BYTE for _, _, kind in rest)
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=3, byte_fallback=has_bytes))
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    steps = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    tokenizer.normalizer = normalizers.Sequence([*steps, spaces])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.add_special_tokens([_token(text) for text in _SPECIAL])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.add_tokens([_token(text) for text, _, kind in rest if kind == _USER_DEFINED])
    return tokenizer


def convert_sentencepiece(path: Path) -> str:
    """A `sentencepiece.bpe.model` file as the text of a `tokenizer.json`.

    Raises:
        ModelRefusedError: see `parse_sentencepiece` and `build_tokenizer`.
    """
    text: str = build_tokenizer(parse_sentencepiece(path.read_bytes())).to_str()
    return text


def _token(text: str) -> AddedToken:
    return AddedToken(text, normalized=False)


def _piece(content: bytes) -> tuple[str, float, int]:
    fields: dict[int, Any] = dict(_fields(content))
    (score,) = struct.unpack("<f", fields.get(2, b"\0\0\0\0"))
    return fields[1].decode(), score, int(fields.get(3, _NORMAL))


def _normalizer(fields: dict[int, Any]) -> bytes:
    # Both are true unless said otherwise; tokenizer.json as written above stands for true.
    for field, name in ((3, "add_dummy_prefix"), (4, "remove_extra_whitespaces")):
        if not fields.get(field, 1):
            raise _refused(f"normalizer_spec.{name}", "expected true, got false")
    return bytes(fields.get(2, b""))


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer message: numbers for varints, bytes for everything else."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        field, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, at = _varint(content, at)
            yield field, value
            continue
        if wire_type == 2:
            length, at = _varint(content, at)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise IndexError(f"wire type {wire_type}")
        if at + length > len(content):
            raise IndexError(f"{at + length - len(content)} bytes are missing")
        yield field, content[at : at + length]
        at += length


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        byte = content[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise IndexError("a number of more than ten bytes")


def _refused(field: str, message: str) -> ModelRefusedError:
    return ModelRefusedError(message, field=f"{_FILE} {field}")
