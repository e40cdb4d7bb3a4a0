"""The same ids as fairseq, SentencePiece and transformers give."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

import pytest
import sentencepiece
from transformers import XLMRobertaTokenizer

from xlmr.text.tokenizer import Tokenizer

pytestmark = pytest.mark.starter

BLANKS = [
    "",
    " ",
    "  two  spaces  ",
    "\ttabs\tand\nlines\r\n",
    "no\u00a0break\u3000wide ",
    "a\u200b",
]


def _varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


@pytest.fixture(scope="module")
def processor(starter: Path) -> sentencepiece.SentencePieceProcessor:
    """SentencePiece's own code on the same pieces, as its protocol buffer describes a model."""
    content = json.loads((starter / "tokenizer.json").read_bytes())
    control, unknown, normal = 3, 2, 1
    kinds = {"<s>": control, "<pad>": control, "</s>": control, "<unk>": unknown}
    model = b"".join(
        _message(
            1,
            _message(1, piece.encode())
            + b"\x15"
            + struct.pack("<f", score)
            + _number(3, kinds.get(piece, normal)),
        )
        for piece, score in content["model"]["vocab"]
    )
    normalizer = content["normalizer"]
    while normalizer["type"] != "Precompiled":
        normalizer = normalizer["normalizers"][0]
    charsmap = base64.b64decode(normalizer["precompiled_charsmap"])
    unigram = _number(3, 1) + _number(40, 3) + _number(41, 0) + _number(42, 2) + _number(43, 1)
    blanks = _number(3, 1) + _number(4, 1) + _number(5, 1)
    model += _message(2, unigram) + _message(3, _message(2, charsmap) + blanks)
    return sentencepiece.SentencePieceProcessor(model_proto=model)


@pytest.fixture(scope="module")
def transformers_tokenizer(starter: Path) -> XLMRobertaTokenizer:
    return XLMRobertaTokenizer.from_pretrained(starter)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        # What fairseq's examples/xlmr/README.md asserts of the original XLM-R.
        ("Hello world!", (0, 35378, 8999, 38, 2)),
        ("你好，世界", (0, 6, 124084, 4, 3221, 2)),
        ("नमस्ते दुनिया", (0, 68700, 97883, 29405, 2)),
        ("مرحبا بالعالم", (0, 665, 193478, 258, 1705, 77796, 2)),
        ("Bonjour le monde", (0, 84602, 95, 11146, 2)),
    ],
)
def test_fairseq(real: Tokenizer, text: str, ids: tuple[int, ...]) -> None:
    assert real.encode(text).ids == ids


def test_sentencepiece_in_every_script(
    real: Tokenizer,
    processor: sentencepiece.SentencePieceProcessor,
    sentences: dict[str, str],
) -> None:
    for text in [*sentences.values(), *BLANKS]:
        assert list(real.encode_whole(text).ids[1:-1]) == processor.encode(text)


def test_transformers_in_every_script(
    real: Tokenizer, transformers_tokenizer: XLMRobertaTokenizer, sentences: dict[str, str]
) -> None:
    texts = [*sentences.values(), *BLANKS]
    expected = transformers_tokenizer(texts)["input_ids"]
    assert [list(encoding.ids) for encoding in real.encode_many(texts)] == expected


@pytest.mark.parametrize("limit", [4, 5, 16, 17, 40, 512])
def test_transformers_on_pairs_cut_to_a_limit(
    real: Tokenizer,
    transformers_tokenizer: XLMRobertaTokenizer,
    sentences: dict[str, str],
    limit: int,
) -> None:
    texts = list(sentences.values())
    pairs = list(zip(texts, reversed(texts), strict=True))
    firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
    expected = transformers_tokenizer(
        firsts, seconds, truncation="longest_first", max_length=limit
    )["input_ids"]
    found = real.encode_many(pairs, max_tokens=limit)
    assert [list(encoding.ids) for encoding in found] == expected


def test_transformers_on_masks(
    real: Tokenizer, transformers_tokenizer: XLMRobertaTokenizer
) -> None:
    for text in ["Paris is the <mask> of France.", "<mask>", "a<mask>b <mask> ", "x <mask>, y"]:
        assert list(real.encode(text).ids) == transformers_tokenizer(text)["input_ids"]
