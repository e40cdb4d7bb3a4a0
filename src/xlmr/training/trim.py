"""A vocabulary is cut to what texts of some languages use: tokenizer, embedding and decoder rows.

A unigram tokenizer takes the best of all ways to cut a text into pieces. Removing pieces that are
in none of the best ways leaves the best ways best: a text whose pieces all stay is cut as before,
and is answered as before.

V pieces before, K pieces kept.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import ModelRefusedError
from xlmr.model.bundle import Bundle
from xlmr.model.importing.writing import CHUNK_BYTES, WIDTHS, StoredArray, write_safetensors
from xlmr.model.jsonfiles import read_object, read_optional_object
from xlmr.model.weights import SafetensorsFile, weight_files
from xlmr.text.tokenizer import Tokenizer
from xlmr.training.checkpoint import write_json

# Arrays with a row for each piece, by the end of their Hugging Face names.
_BY_PIECE = (
    "embeddings.word_embeddings.weight",
    "lm_head.decoder.weight",
    "lm_head.decoder.bias",
    "lm_head.bias",
)
# A script belongs to a language that writes at least this share of its letters in it: a name in
# foreign letters here and there does not bring a whole script along.
_SCRIPT_SHARE = 0.01
_TEXTS_AT_ONCE = 2048


def count_ids(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    progress: Callable[[float, int], None] = lambda done, tokens: None,
) -> Counter[int]:
    """How often texts are read as each id.

    `progress` is told the share done, 0 to 1, and the tokens counted since it was told last.
    """
    counts: Counter[int] = Counter()
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        before = counts.total()
        for encoding in tokenizer.encode_many_whole(texts[start : start + _TEXTS_AT_ONCE]):
            counts.update(encoding.ids)
        progress(min(1.0, (start + _TEXTS_AT_ONCE) / len(texts)), counts.total() - before)
    return counts


def scripts_of(texts: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The scripts of (text, language) pairs, as Unicode's names of characters begin: `LATIN`."""
    counts: dict[str, Counter[str]] = {}
    for text, language in texts:
        counts.setdefault(language, Counter()).update(text)
    scripts: set[str] = set()
    for characters in counts.values():
        letters: Counter[str] = Counter()
        for character, count in characters.items():
            if unicodedata.category(character)[0] == "L":
                letters[_script(character)] += count
        total = letters.total()
        scripts |= {script for script, n in letters.items() if n >= _SCRIPT_SHARE * total}
    return frozenset(scripts)


def kept_ids(content: Mapping[str, Any], used: Set[int], scripts: Set[str]) -> list[int]:
    """Which pieces stay, rising; the place of an id in the list is its new id.

    Besides the used ones these are: special and added tokens, digits, signs and punctuation, and
    every single letter of the scripts and of Latin, so that nothing written in them becomes
    `<unk>`.

    Args:
        content: a parsed `tokenizer.json`.
        used: ids that texts are read as.
        scripts: as `scripts_of` gives them.
    """
    vocabulary = content["model"]["vocab"]
    kept = {0, 1, 2, 3} | {token["id"] for token in content.get("added_tokens", ())}
    kept |= {id for id in used if id < len(vocabulary)}
    # What an unknown character costs follows from the lowest score: it must not change.
    kept.add(min(range(len(vocabulary)), key=lambda id: vocabulary[id][1]))
    scripts = scripts | {"LATIN"}
    kept |= {id for id, (piece, _) in enumerate(vocabulary) if _is_basic(piece, scripts)}
    return sorted(kept)


def trimmed_tokenizer(content: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """A parsed `tokenizer.json` with the kept pieces only, their scores as they were."""
    vocabulary = content["model"]["vocab"]
    new = {old: id for id, old in enumerate(kept)}
    model = content["model"] | {"vocab": [vocabulary[old] for old in kept if old < len(vocabulary)]}
    return dict(content) | {
        "model": model,
        "added_tokens": [
            token | {"id": new[token["id"]]} for token in content.get("added_tokens", ())
        ],
        "post_processor": _with_new_ids(content.get("post_processor"), new),
    }


def changed_share(before: Tokenizer, after: Tokenizer, texts: Sequence[str]) -> float:
    """Share of the tokens of texts that the second tokenizer cuts in another way; 0 without any."""
    changed = total = 0
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        some = texts[start : start + _TEXTS_AT_ONCE]
        both = zip(before.encode_many_whole(some), after.encode_many_whole(some), strict=True)
        for old, new in both:
            known = {
                (after.piece(id), place) for id, place in zip(new.ids, new.offsets, strict=True)
            }
            said = zip(old.ids, old.offsets, strict=True)
            changed += sum((before.piece(id), place) not in known for id, place in said)
            total += len(old.ids)
    return changed / max(total, 1)


def write_tokenizer(bundle: Bundle, kept: Sequence[int], directory: Path) -> Tokenizer:
    """Writes the tokenizer's files with the kept pieces only, and reads them back.

    Raises:
        ModelRefusedError: the library does not give the pieces their new ids.
    """
    content = trimmed_tokenizer(read_object(bundle.directory / "tokenizer.json"), kept)
    path = directory / "tokenizer.json"
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    trimmed = Tokenizer.from_file(path, max_tokens=bundle.tokenizer.max_tokens)
    for new, old in enumerate(kept):
        if trimmed.piece(new) != bundle.tokenizer.piece(old):
            raise ModelRefusedError(
                f"id {old} cannot become {new}: the library puts another piece there",
                field="tokenizer.json added_tokens",
            )
    settings = read_optional_object(bundle.directory / "tokenizer_config.json")
    if settings is not None:
        places = {str(old): str(new) for new, old in enumerate(kept)}
        decoder = settings.get("added_tokens_decoder")
        if isinstance(decoder, dict):
            said = {places[old]: token for old, token in decoder.items() if old in places}
            settings = settings | {"added_tokens_decoder": said}
        write_json(directory / "tokenizer_config.json", settings)
    return trimmed


def write_weights(bundle: Bundle, kept: Sequence[int], directory: Path) -> None:
    """Writes every array into one file in its own number format, and `config.json`.

    Raises:
        WeightsError: a weight is not a finite number.
    """
    rows_K = np.array(kept, np.int64)
    arrays = [
        _array(file, name, rows_K, bundle.config.vocabulary)
        for path in weight_files(bundle.directory)
        for file in [SafetensorsFile(path)]
        for name in file
        if file.raw(name)[0] in WIDTHS  # buffers of whole numbers are nothing that was learned
    ]
    write_safetensors(directory / "model.safetensors", arrays)
    write_json(directory / "config.json", dict(bundle.raw_config) | {"vocab_size": len(kept)})


def _array(
    file: SafetensorsFile, name: str, rows_K: NDArray[np.int64], vocabulary: int
) -> StoredArray:
    dtype, shape = file.raw(name)[0], file.shape(name)
    if not (name.endswith(_BY_PIECE) and shape[0] == vocabulary):
        return StoredArray(name, dtype, shape, partial(_whole, file, name))
    return StoredArray(name, dtype, (len(rows_K), *shape[1:]), partial(_rows, file, name, rows_K))


def _whole(file: SafetensorsFile, name: str) -> Iterator[NDArray[np.uint8]]:
    raw = file.raw(name)[1]
    for start in range(0, len(raw), CHUNK_BYTES):
        yield raw[start : start + CHUNK_BYTES]


def _rows(
    file: SafetensorsFile, name: str, rows_K: NDArray[np.int64]
) -> Iterator[NDArray[np.uint8]]:
    raw_VB = file.raw(name)[1].reshape(file.shape(name)[0], -1)
    step = max(1, CHUNK_BYTES // raw_VB.shape[1])
    for start in range(0, len(rows_K), step):
        yield raw_VB[rows_K[start : start + step]]


def _is_basic(piece: str, scripts: Set[str]) -> bool:
    """A single character that these scripts, or all, are written with; or a byte of one."""
    if piece.startswith("<0x"):
        return True
    if len(piece) != 1:
        return False
    category = unicodedata.category(piece)[0]
    if category in "NPSZC":
        return True
    script = _script(piece)
    return script in scripts or (category == "M" and script == "COMBINING")


def _script(character: str) -> str:
    return unicodedata.name(character, "").partition(" ")[0].partition("-")[0]


def _with_new_ids(node: Any, new: Mapping[int, int]) -> Any:
    """A post-processor whose lists of ids are those of the pieces that stayed."""
    if isinstance(node, list):
        return [_with_new_ids(child, new) for child in node]
    if not isinstance(node, dict):
        return node
    return {
        key: [new[id] for id in child] if key == "ids" else _with_new_ids(child, new)
        for key, child in node.items()
    }
