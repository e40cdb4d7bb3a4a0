"""Rows in pieces: every text whole, every output with its row, every fault with its line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tiny import tiny_model

from xlmr.evaluation.suites import TAG
from xlmr.model.bundle import open_bundle
from xlmr.training.data import read_examples
from xlmr.training.objective import Feature
from xlmr.training.objectives.windows import outputs_by_row, place_of, whole_encodings
from xlmr.training.recipe import Data


def test_texts_are_encoded_whole_and_in_order_however_many(tmp_path: Path) -> None:
    tokenizer = open_bundle(tiny_model(tmp_path, "embed", positions=18)).tokenizer
    texts = [f"hello {'world ' * (i % 40)}{i}" for i in range(600)]
    found = list(whole_encodings(tokenizer, texts))
    assert found == [tokenizer.encode_whole(text) for text in texts]
    assert max(len(encoding.ids) for encoding in found) > tokenizer.max_tokens
    assert list(whole_encodings(tokenizer, [])) == []


def test_outputs_stay_with_their_row_whatever_order_they_come_in() -> None:
    features = [Feature(texts=((i,),), target=None, row=i // 2, language="en") for i in range(4)]
    found = outputs_by_row(features[::-1], "dcba")
    assert list(found) == [0, 1]
    assert found[0] == [(features[1], "b"), (features[0], "a")]


def test_a_row_is_named_by_its_file_and_line(tmp_path: Path) -> None:
    row = {"tokens": ["Anna"], "tags": ["B-PER"], "language": "en"}
    for name in ("train", "dev"):
        (tmp_path / f"{name}.jsonl").write_text("\n\n" + json.dumps(row))
    examples = read_examples(
        Data(
            train=str(tmp_path / "train.jsonl"),
            dev=str(tmp_path / "dev.jsonl"),
            near_duplicates="keep",
        ),
        TAG,
    )
    # Both rows are equal; it is the row itself that is looked for.
    assert place_of(examples.train[0], examples).endswith("train.jsonl:3")
    assert place_of(examples.dev[0], examples).endswith("dev.jsonl:3")
