"""A head on frozen vectors: it learns, is calibrated, and the same run writes the same bytes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file
from tests.tiny import tiny_model

from xlmr.errors import MissingExtraError, ModelError
from xlmr.evaluation.suites import CLASSIFY
from xlmr.model.predictor import load
from xlmr.settings import Settings
from xlmr.training.data import Examples, read_examples
from xlmr.training.head import (
    Classes,
    HeadOptions,
    LinearHead,
    Vectors,
    embed_texts,
    fit_head,
    write_head,
)
from xlmr.training.recipe import Data

ENGLISH = [
    ("where is my parcel", "delivery"),
    ("parcel not arrived", "delivery"),
    ("the parcel", "delivery"),
    ("where", "delivery"),
    ("refund the money", "refund"),
    ("money", "refund"),
    ("my money", "refund"),
    ("a refund", "refund"),
    ("anna lives in paris", "other"),
    ("hello world", "other"),
    ("berlin hello", "other"),
    ("paris in the world", "other"),
]


def blobs(classes: int, rows: int, *, seed: int, noise: float = 0.5) -> tuple[Vectors, Classes]:
    """Clouds around random centres, far from the origin as sentence vectors are."""
    generator = np.random.default_rng(seed)
    centres_CD = np.random.default_rng(99).normal(size=(classes, 16))
    gold_N = np.arange(rows) % classes
    vectors_ND = 5.0 + centres_CD[gold_N] + noise * generator.normal(size=(rows, 16))
    return vectors_ND.astype(np.float32), gold_N


def right(head: LinearHead, vectors_ND: Vectors, gold_N: Classes) -> float:
    logits_NC = vectors_ND @ head.weight_CD.T + head.bias_C
    return float(np.mean(logits_NC.argmax(axis=1) == gold_N))


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("with_dev", [True, False])
def test_it_learns_what_can_be_separated(classes: int, with_dev: bool) -> None:
    train, dev, test = (blobs(classes, 60, seed=seed) for seed in range(3))
    head = fit_head(*train, *(dev if with_dev else (None, None)))
    assert head.weight_CD.shape == (classes, 16)
    assert head.weight_CD.dtype == head.bias_C.dtype == np.float32
    assert right(head, *test) > 0.95
    assert head.held_out["rows"] == 60
    assert head.held_out["accuracy"] > 0.95


def test_labels_that_mean_nothing_are_not_learnt() -> None:
    vectors, _ = blobs(1, 200, seed=0)
    gold = np.random.default_rng(1).integers(0, 4, 200)
    head = fit_head(vectors[:100], gold[:100], vectors[100:], gold[100:])
    assert head.held_out["accuracy"] < 0.45
    assert head.held_out["log_loss"] < 1.5  # close to the log of 4: it does not pretend to know


def test_the_temperature_makes_probabilities_honest() -> None:
    train, dev = blobs(4, 200, seed=0, noise=1.5), blobs(4, 2000, seed=1, noise=1.5)
    vectors, gold = blobs(4, 4000, seed=2, noise=1.5)
    head = fit_head(*train, *dev)
    logits_NC = vectors @ head.weight_CD.T + head.bias_C
    p_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    p_NC /= p_NC.sum(axis=1, keepdims=True)
    hit_N = p_NC.argmax(axis=1) == gold
    assert p_NC.max(axis=1).mean() == pytest.approx(hit_N.mean(), abs=0.03)
    assert head.held_out["log_loss"] <= head.held_out["log_loss_before"]


def test_one_row_for_a_label_is_enough_to_go_on() -> None:
    vectors = np.eye(3, 8, dtype=np.float32)
    head = fit_head(vectors, np.arange(3), None, None)
    assert right(head, vectors, np.arange(3)) == 1.0
    assert (head.held_out, head.temperature) == ({}, 1.0)


def test_dimensions_that_never_vary_do_no_harm() -> None:
    vectors, gold = blobs(2, 20, seed=0)
    vectors[:, 3] = 1.0
    assert np.isfinite(fit_head(vectors, gold, None, None).weight_CD).all()
    same = fit_head(np.ones((20, 4), np.float32), gold, None, None)
    assert np.isfinite(same.weight_CD).all()


def test_the_same_run_gives_the_same_bits() -> None:
    train, dev = blobs(3, 60, seed=0), blobs(3, 30, seed=1)
    first, second = (fit_head(*train, *dev) for _ in range(2))
    assert first.weight_CD.tobytes() == second.weight_CD.tobytes()
    assert first.bias_C.tobytes() == second.bias_C.tobytes()


def examples_at(path: Path) -> Examples:
    lines = [json.dumps({"text": t, "label": la}) for t, la in ENGLISH]
    (path / "en.train.jsonl").write_text("\n".join(lines))
    return read_examples(Data(train=str(path / "en.train.jsonl")), CLASSIFY)


def train_tiny(tmp_path: Path, name: str, *, force: bool = False) -> Path:
    out = tmp_path / name
    encoder = tmp_path / "embed"
    if not encoder.exists():
        tiny_model(tmp_path, "embed")
    examples = examples_at(tmp_path)
    settings = Settings(runtime="reference", cache_dir=tmp_path / "cache")
    options = HeadOptions(seed=3)
    with load(encoder, settings=settings) as predictor:
        texts = [row.text for row in examples.train]
        vectors = [e.vector for e in embed_texts(predictor, texts, prompt="")]
        gold = np.array(examples.classes(examples.train))
        head = fit_head(np.stack(vectors), gold, None, None, options)
        write_head(
            out,
            bundle=predictor.bundle,
            head=head,
            examples=examples,
            options=options,
            prompt="",
            runtime=predictor.runtime.name,
            force=force,
        )
    return out


def digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_the_same_run_writes_the_same_bytes(tmp_path: Path) -> None:
    assert digests(train_tiny(tmp_path, "one")) == digests(train_tiny(tmp_path, "two"))


def test_what_was_written_classifies_and_still_embeds(tmp_path: Path) -> None:
    out = train_tiny(tmp_path, "out")
    settings = Settings(runtime="reference", cache_dir=tmp_path / "cache")
    with load(out, settings=settings) as predictor:
        assert predictor.tasks == {"classify", "embed"}
        answers = predictor.classify([text for text, _ in ENGLISH])
        with load(tmp_path / "embed", settings=settings) as encoder:
            assert predictor.bundle.encoder_digest == encoder.bundle.encoder_digest
            assert predictor.bundle.digest != encoder.bundle.digest
    hits = [answer.label == label for answer, (_, label) in zip(answers, ENGLISH, strict=True)]
    assert np.mean(hits) > 0.7  # chance is a third; the encoder is random, the words are not
    assert sum(score.score for score in answers[0].labels) == pytest.approx(1.0, abs=1e-5)


def test_it_stays_a_hugging_face_directory_and_tells_its_origin(tmp_path: Path) -> None:
    out = train_tiny(tmp_path, "out")
    model = transformers.AutoModel.from_pretrained(out, local_files_only=True)
    assert type(model).__name__ == "XLMRobertaModel"
    arrays = load_file(out / "xlmr_head.safetensors")
    assert {name: array.shape for name, array in arrays.items()} == {
        "weight": (3, 32),
        "bias": (3,),
    }
    content = json.loads((out / "xlmr.json").read_text())
    assert content["format"] == 1
    assert content["head"]["labels"] == ["delivery", "other", "refund"]
    origin = content["lineage"]
    assert (origin["method"], origin["seed"]) == ("head", 3)
    assert origin["data"][0]["rows"] == len(ENGLISH)
    expected = hashlib.sha256((tmp_path / "en.train.jsonl").read_bytes()).hexdigest()
    assert origin["data"][0]["sha256"] == expected
    assert str(tmp_path) not in json.dumps(content)


def test_a_second_run_needs_force(tmp_path: Path) -> None:
    out = train_tiny(tmp_path, "out")
    before = digests(out)
    with pytest.raises(ModelError, match="exists"):
        train_tiny(tmp_path, "out")
    assert digests(train_tiny(tmp_path, "out", force=True)) == before


def test_a_missing_extra_prints_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    vectors, gold = blobs(2, 20, seed=0)
    with pytest.raises(MissingExtraError, match=r"pip install 'xlmr\[fit\]'"):
        fit_head(vectors, gold, None, None)


def test_fitting_a_head_never_imports_torch() -> None:
    code = (
        "import sys, numpy as np; from xlmr.training.head import fit_head; import xlmr.cli.train;"
        "fit_head(np.eye(8, dtype=np.float32), np.arange(8) % 2, None, None);"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
