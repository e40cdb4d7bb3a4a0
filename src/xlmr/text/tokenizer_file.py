"""A `tokenizer.json`: read, refused where it is not XLM-R's, and fingerprinted."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec
from tokenizers import Tokenizer as Library

from xlmr.errors import ModelRefusedError

# XLM-R's first four pieces are fixed: positions count from the padding id, heads read `<s>`.
SPECIAL_IDS = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
_BOS, _EOS, _UNKNOWN = SPECIAL_IDS["<s>"], SPECIAL_IDS["</s>"], SPECIAL_IDS["<unk>"]
# Part of the fingerprint: raise it when `xlmr.text.tokenizer` starts to read texts differently.
_READING = 1


def read_tokenizer_bytes(path: Path) -> bytes:
    """The content of a `tokenizer.json`.

    Raises:
        ModelRefusedError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        _refuse("", f"cannot be read: {error.strerror}")


class TokenizerFile(NamedTuple):
    """What a `tokenizer.json` holds.

    Attributes:
        fingerprint: SHA-256, hex, over pieces, scores, normalizer, pre-tokenizer, post-processor
            and added tokens. The file's formatting, its stored padding and truncation and its
            decoder do not count; nor does the spelling of Metaspace, which differs between library
            versions.
        decoder: how ids become text, in one spelling.
    """

    fingerprint: str
    decoder: bytes


def parse_tokenizer(raw: bytes) -> TokenizerFile:
    """Reads the content of a file, in a seventh of the time that `open_library` takes.

    Raises:
        ModelRefusedError: malformed, or not an XLM-R tokenizer; names the field.
    """
    content = _parse(raw)
    _check(content)
    decoder = msgspec.json.encode(_canonical(content.decoder), order="sorted")
    return TokenizerFile(_fingerprint(content), decoder)


def open_library(raw: bytes) -> Any:
    """The library's tokenizer of a file that was parsed, set never to cut or pad.

    Nobody else in this process runs Python meanwhile, most of a second for XLM-R's vocabulary:
    the library holds the interpreter lock, however it is called.

    Raises:
        ModelRefusedError: as `parse_tokenizer`.
    """
    try:
        library = Library.from_buffer(raw)
    except ValueError as error:
        _refuse("", str(error))
    library.no_padding()
    library.no_truncation()
    _check_library(library)
    return library


def blank_characters(normalizer: Any) -> Iterator[str]:
    """Characters that a tokenizer with this normalizer reads as a space, or as nothing at all."""
    for code in range(0x10000):
        char = chr(code)
        category = unicodedata.category(char)
        # Only separators and controls, and the two signs that SentencePiece treats as spaces.
        if category[0] != "Z" and category not in ("Cc", "Cf") and char not in "▁\ufffd":
            continue
        normalised = normalizer.normalize_str(char) if normalizer is not None else char
        if not normalised.strip(" ▁"):
            yield char


class _Model(msgspec.Struct):
    vocab: list[tuple[str, float]]
    type: str = "Unigram"
    unk_id: int | None = None
    byte_fallback: bool = False


class _AddedToken(msgspec.Struct):
    id: int
    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = False


class _File(msgspec.Struct):
    """The parts of a `tokenizer.json` that decide ids, and text."""

    model: _Model
    added_tokens: list[_AddedToken] = []
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    post_processor: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None


def _refuse(place: str, message: str) -> NoReturn:
    raise ModelRefusedError(
        message,
        field=f"tokenizer.json{place}",
        hint="an XLM-R directory holds a Unigram tokenizer.json written by transformers",
    ) from None


def _parse(raw: bytes) -> _File:
    try:
        return msgspec.json.decode(raw, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse("", str(error))


def _check(content: _File) -> None:
    """Refuses what is not XLM-R's, before the library takes a second over it."""
    if content.model.type != "Unigram":
        _refuse("/model/type", f"{content.model.type!r}; expected 'Unigram'")
    for piece, id in SPECIAL_IDS.items():
        found = content.model.vocab[id][0] if id < len(content.model.vocab) else None
        if found != piece:
            _refuse(f"/model/vocab/{id}", f"{found!r}; XLM-R has {piece!r} there")
    if content.model.unk_id != _UNKNOWN:
        _refuse("/model/unk_id", f"{content.model.unk_id}; expected {_UNKNOWN}")
    for charsmap in _charsmaps(content.normalizer):
        if not _is_charsmap(charsmap):
            _refuse("/normalizer/precompiled_charsmap", "not a SentencePiece character map")


def _check_library(library: Any) -> None:
    """Refuses added tokens or a post-processor that contradict XLM-R's."""
    for piece, id in SPECIAL_IDS.items():
        if library.token_to_id(piece) != id:
            _refuse(f"/added_tokens/{piece}", f"{library.token_to_id(piece)}; XLM-R has {id}")
    if library.token_to_id("<mask>") is None:
        _refuse("/added_tokens/<mask>", "missing")
    plain = library.encode("a", add_special_tokens=False).ids
    single, pair = library.encode("a").ids, library.encode("a", "a").ids
    if library.post_processor is not None and (
        single != [_BOS, *plain, _EOS] or pair != [_BOS, *plain, _EOS, _EOS, *plain, _EOS]
    ):
        _refuse("/post_processor", "does not write <s> A </s> and <s> A </s></s> B </s>")


def _charsmaps(node: Any) -> Iterator[Any]:
    """Every precompiled character map in a normalizer, however deeply it is nested."""
    if isinstance(node, dict):
        if node.get("type") == "Precompiled":
            yield node.get("precompiled_charsmap")
        for child in node.get("normalizers", ()):
            yield from _charsmaps(child)


def _is_charsmap(encoded: Any) -> bool:
    """Whether the library can read this map; it ends the process's thread on one that it cannot.

    The layout is a 32-bit length, a trie of that many bytes, then UTF-8 text.
    """
    try:
        blob = base64.b64decode(encoded, validate=True)
        length: int = struct.unpack_from("<I", blob)[0]
        blob[4 + length :].decode()
    except (TypeError, ValueError, binascii.Error, struct.error):
        return False
    return length % 4 == 0 and 4 + length <= len(blob)


def _fingerprint(content: _File) -> str:
    """SHA-256 over a canonical form: sorted keys, defaults written out, one spelling for each."""
    parts = {
        "reading": _READING,
        "model": content.model,
        "added_tokens": sorted(content.added_tokens, key=lambda token: token.id),
        "normalizer": _canonical(content.normalizer),
        "pre_tokenizer": _canonical(content.pre_tokenizer),
        "post_processor": _canonical(content.post_processor),
    }
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def _canonical(node: Any) -> Any:
    """One spelling for Metaspace, which saving with a newer library writes in another way."""
    if isinstance(node, list):
        return [_canonical(child) for child in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") != "Metaspace":
        return {key: _canonical(value) for key, value in node.items()}
    prefixed = "always" if node.get("add_prefix_space", True) else "never"
    return {
        "type": "Metaspace",
        "replacement": node.get("replacement"),
        "prepend_scheme": node.get("prepend_scheme", prefixed),
        "split": node.get("split", True),
    }
