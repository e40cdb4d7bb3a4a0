"""A trimmed vocabulary reads what was counted as before, and its files say the same everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny import tiny_model, tokenizer_json

from xlmr.errors import ModelRefusedError
from xlmr.model.bundle import open_bundle
from xlmr.model.weights import SafetensorsFile
from xlmr.training.trim import (
    changed_share,
    count_ids,
    kept_ids,
    scripts_of,
    trimmed_tokenizer,
    write_tokenizer,
    write_weights,
)

SCORES = st.floats(min_value=-20, max_value=-1, allow_nan=False)
VOCABULARIES = st.dictionaries(st.text("abcé中я", min_size=1, max_size=4), SCORES, max_size=40)
SENTENCES = st.lists(
    st.lists(st.text("abcé中яж", min_size=1, max_size=9), min_size=1, max_size=5).map(" ".join),
    min_size=1,
    max_size=6,
)


def content_of(pieces: dict[str, float]) -> dict[str, Any]:
    """The tiny tokenizer with other pieces, each also with a blank in front."""
    content: dict[str, Any] = json.loads(tokenizer_json())
    spaced = {"▁" + piece: score - 0.5 for piece, score in pieces.items()}
    vocabulary = content["model"]["vocab"]
    inner = {"▁": -3.0} | pieces | spaced
    content["model"]["vocab"] = [*vocabulary[:4], *inner.items(), vocabulary[-1]]
    content["added_tokens"][-1]["id"] = len(inner) + 4
    return content


def pieces_of(content: dict[str, Any], text: str) -> list[tuple[str, tuple[int, int]]]:
    library = tokenizers.Tokenizer.from_str(json.dumps(content))
    read = library.encode(text)
    # Unknown tokens have no piece to compare; where they stand is compared.
    return list(zip(read.tokens, read.offsets, strict=True))


@settings(max_examples=60, deadline=None)
@given(pieces=VOCABULARIES, texts=SENTENCES)
def test_what_was_counted_is_cut_as_before(pieces: dict[str, float], texts: list[str]) -> None:
    content = content_of(pieces)
    library = tokenizers.Tokenizer.from_str(json.dumps(content))
    used = {id for text in texts for id in library.encode(text).ids}
    trimmed = trimmed_tokenizer(content, kept_ids(content, used, frozenset()))
    for text in texts:
        assert pieces_of(trimmed, text) == pieces_of(content, text)


def test_a_text_of_other_pieces_shows_up_in_the_share_that_changed(tmp_path: Path) -> None:
    bundle = open_bundle(tiny_model(tmp_path))
    used = count_ids(bundle.tokenizer, ["hello world"])
    content = json.loads(tokenizer_json())
    trimmed = write_tokenizer(bundle, kept_ids(content, used.keys(), frozenset()), tmp_path)
    assert changed_share(bundle.tokenizer, trimmed, ["world hello"]) == 0.0
    # <s> hello | parcel | </s>: one of four tokens falls apart into letters.
    assert changed_share(bundle.tokenizer, trimmed, ["hello parcel"]) == 0.25
    assert changed_share(bundle.tokenizer, trimmed, []) == 0.0


def test_letters_of_the_scripts_and_signs_of_all_stay() -> None:
    content = json.loads(tokenizer_json())
    vocabulary = content["model"]["vocab"]
    kept = {vocabulary[id][0] for id in kept_ids(content, set(), frozenset({"CYRILLIC"}))}
    assert {"п", "q", "7", "?", "▁", "<mask>", "<unk>"} <= kept
    assert kept.isdisjoint({"世", "न", "ש", "hello", "▁мир", "где"})


def test_a_name_in_foreign_letters_does_not_bring_its_script_along() -> None:
    assert scripts_of([("a" * 1000 + "я", "en"), ("я", "ru")]) == {"LATIN", "CYRILLIC"}
    assert scripts_of([("a" * 1000 + "я", "en")]) == {"LATIN"}
    assert scripts_of([("2024 ?!", "en")]) == frozenset()


def test_an_unknown_character_costs_what_it_did() -> None:
    # The lowest score decides it, and here a piece that no text uses has the lowest.
    content = content_of({"a": -2.0, "b": -3.0, "zzz": -90.0})
    trimmed = trimmed_tokenizer(content, kept_ids(content, set(), frozenset()))
    lowest = [min(score for _, score in c["model"]["vocab"]) for c in (content, trimmed)]
    assert lowest[0] == lowest[1] == -90.5


def test_rows_and_ids_follow_the_pieces(tmp_path: Path) -> None:
    bundle = open_bundle(tiny_model(tmp_path, "fill"))
    (bundle.directory / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": {"215": {"content": "<mask>"}, "0": {}}})
    )
    content = json.loads(tokenizer_json())
    assert bundle.tokenizer.mask_id == 215
    out = tmp_path / "out"
    out.mkdir()
    ids = kept_ids(content, {40, 41, 180}, frozenset())
    trimmed = write_tokenizer(bundle, ids, out)
    write_weights(bundle, ids, out)
    assert ids[:4] == [0, 1, 2, 3]
    assert trimmed.mask_id == len(ids) - 1 == trimmed.vocabulary_size - 1
    assert json.loads((out / "config.json").read_text())["vocab_size"] == len(ids)
    settings = json.loads((out / "tokenizer_config.json").read_text())
    assert settings["added_tokens_decoder"].keys() == {str(trimmed.mask_id), "0"}
    before, after = (SafetensorsFile(d / "model.safetensors") for d in (bundle.directory, out))
    assert set(before) == set(after)
    for name in before:
        whole = before.read(name)
        by_piece = len(whole) == bundle.config.vocabulary
        expected = whole[ids] if by_piece else whole
        np.testing.assert_array_equal(after.read(name), expected)
    assert {n for n in after if len(after.read(n)) == len(ids)} >= {
        "lm_head.bias",
        "roberta.embeddings.word_embeddings.weight",
    }


def test_shards_and_half_precision_keep_their_numbers(tmp_path: Path) -> None:
    import torch

    bundle = open_bundle(tiny_model(tmp_path, dtype=torch.bfloat16, max_shard_size="20KB"))
    out = tmp_path / "out"
    out.mkdir()
    ids = [0, 1, 2, 3, 10, 215]
    write_weights(bundle, ids, out)
    written = SafetensorsFile(out / "model.safetensors")
    assert {written.raw(name)[0] for name in written} == {"BF16"}
    name = "roberta.embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(
        written.read(name), bundle.weights().encoder("embeddings.word")[ids]
    )


def test_tokens_added_behind_the_vocabulary_move_up(tmp_path: Path) -> None:
    content = json.loads(tokenizer_json())
    model = tiny_model(tmp_path, vocab_size=len(content["model"]["vocab"]) + 3)
    more = [content["added_tokens"][-1] | {"id": 216 + i, "content": f"<t{i}>"} for i in range(2)]
    content["added_tokens"] += more
    (model / "tokenizer.json").write_text(json.dumps(content))
    bundle = open_bundle(model)
    text = "a <t1> b"
    used = count_ids(bundle.tokenizer, [text]).keys()
    trimmed = write_tokenizer(bundle, kept_ids(content, used, frozenset()), tmp_path)
    size = trimmed.vocabulary_size
    last = [trimmed.piece(id) for id in (size - 3, size - 2, size - 1)]
    assert last == ["<mask>", "<t0>", "<t1>"]
    assert [trimmed.piece(id) for id in trimmed.encode(text).ids] == [
        bundle.tokenizer.piece(id) for id in bundle.tokenizer.encode(text).ids
    ]


def test_ids_that_the_library_would_put_elsewhere_are_refused(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, vocab_size=217)
    content = json.loads(tokenizer_json())
    content["added_tokens"].append(content["added_tokens"][-1] | {"id": 216, "content": "<t>"})
    (model / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelRefusedError, match="added_tokens"):
        write_tokenizer(open_bundle(model), [0, 1, 2, 3, 216, 215], tmp_path)
