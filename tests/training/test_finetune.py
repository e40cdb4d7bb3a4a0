"""Fine-tuning on tiny models: it learns, repeats itself to the byte, and stops when it diverges."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tests.tiny import tiny_model

from xlmr.errors import MissingExtraError, TrainingError
from xlmr.model.bundle import Bundle, open_bundle
from xlmr.model.predictor import load
from xlmr.settings import Settings
from xlmr.training import finetune
from xlmr.training.data import Examples, read_examples
from xlmr.training.finetune import FinetuneOptions, Step

ROWS = [
    ("where is my parcel", "delivery", "en"),
    ("parcel not arrived", "delivery", "en"),
    ("где посылка", "delivery", "ru"),
    ("refund the money", "refund", "en"),
    ("my money refund", "refund", "en"),
    ("a refund", "refund", "en"),
]
DEV = [
    ("the parcel", "delivery", "en"),
    ("the money", "refund", "en"),
    ("посылка", "delivery", "ru"),
]
QUICK = FinetuneOptions(seed=5, epochs=8, learning_rate=1e-2, batch_tokens=18)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices gain nothing from threads, and lose much where other work shares the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(tiny_model(tmp_path, "embed"))


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    for name, rows in (("train", ROWS), ("dev", DEV)):
        lines = [json.dumps({"text": t, "label": la, "language": lg}) for t, la, lg in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return read_examples(tmp_path / "train.jsonl", tmp_path / "dev.jsonl")


def train(
    bundle: Bundle, examples: Examples, options: FinetuneOptions
) -> tuple[object, list[Step]]:
    rows, dev = finetune.encode_rows(examples, bundle.tokenizer, options)
    model = finetune.load_model(bundle, examples.labels, options)
    return model, list(finetune.keep_best(model, finetune.fine_tune(model, rows, dev, options)))


def write(out: Path, bundle: Bundle, examples: Examples, options: FinetuneOptions) -> Path:
    model, steps = train(bundle, examples, options)
    scores = [step.dev for step in steps if step.dev]
    finetune.write_finetuned(
        out, model=model, bundle=bundle, examples=examples, options=options, scores=scores
    )
    return out


def test_it_learns_and_its_steps_tell_of_it(bundle: Bundle, examples: Examples) -> None:
    _, steps = train(bundle, examples, QUICK)
    first_epoch = [step.loss for step in steps if step.epoch == 1]
    last_epoch = [step.loss for step in steps if step.epoch == QUICK.epochs]
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert np.mean(last_epoch) < np.mean(first_epoch) / 2
    assert steps[-1].done == pytest.approx(1.0)
    assert max(step.learning_rate for step in steps) <= QUICK.learning_rate
    ends = [step for step in steps if step.dev]
    assert [step.epoch for step in ends] == list(range(1, 9))
    assert set(ends[-1].dev.accuracy_by_language) == {"en", "ru"}  # type: ignore[union-attr]
    a_pass = sum(
        len(e.ids) for e in bundle.tokenizer.encode_many([row.text for row in examples.train])
    )
    assert sum(step.tokens for step in steps) == QUICK.epochs * a_pass


def test_the_same_run_writes_the_same_bytes(
    bundle: Bundle, examples: Examples, tmp_path: Path
) -> None:
    options = replace(QUICK, epochs=2)
    torch.manual_seed(1)
    one = write(tmp_path / "one", bundle, examples, options)
    torch.manual_seed(2)  # what the caller's generator holds must not matter
    two = write(tmp_path / "two", bundle, examples, options)
    other = write(tmp_path / "other", bundle, examples, replace(options, seed=6))
    digest = {
        out.name: {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.iterdir()}
        for out in (one, two, other)
    }
    assert digest["one"] == digest["two"]
    assert digest["one"]["model.safetensors"] != digest["other"]["model.safetensors"]


def test_the_callers_random_numbers_come_back(bundle: Bundle, examples: Examples) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(bundle, examples, replace(QUICK, epochs=1))
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_was_written_opens_in_transformers_and_here_alike(
    bundle: Bundle, examples: Examples, tmp_path: Path
) -> None:
    out = write(tmp_path / "out", bundle, examples, QUICK)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        out, local_files_only=True
    ).eval()
    assert theirs.config.id2label == {0: "delivery", 1: "refund"}
    settings = Settings(runtime="reference", cache_dir=tmp_path / "cache")
    with load(out, settings=settings) as predictor:
        assert predictor.tasks == {"classify"}
        for text, _, _ in ROWS:
            ids = predictor.bundle.tokenizer.encode(text).ids
            with torch.no_grad():
                p_C = theirs(torch.tensor([ids])).logits[0].softmax(-1)
            answer = predictor.classify([text])[0]
            assert answer.label == theirs.config.id2label[int(p_C.argmax())]
            assert answer.score == pytest.approx(float(p_C.max()), abs=1e-4)
    origin = json.loads((out / "xlmr.json").read_text())["lineage"]
    assert origin["encoder"]["digest"] == bundle.encoder_digest
    assert [file["split"] for file in origin["data"]] == ["train", "dev"]


@pytest.mark.parametrize("learns", [False, True])
def test_word_embeddings_learn_only_when_asked(
    bundle: Bundle, examples: Examples, learns: bool
) -> None:
    before = torch.tensor(bundle.weights().encoder("embeddings.word"))
    options = replace(QUICK, epochs=1, train_embeddings=learns)
    model, _ = train(bundle, examples, options)
    after = model.get_input_embeddings().weight.detach()  # type: ignore[attr-defined]
    assert torch.equal(after, before) is not learns
    encoder = model.roberta.encoder.layer[0].output.dense.weight.detach()  # type: ignore[attr-defined]
    assert not torch.equal(encoder, torch.tensor(bundle.weights().encoder("layers.0.down.weight")))


def test_a_pre_norm_model_can_be_tuned(tmp_path: Path, examples: Examples) -> None:
    bundle = open_bundle(tiny_model(tmp_path, "embed", pre_norm=True))
    model, _ = train(bundle, examples, replace(QUICK, epochs=1))
    assert type(model).__name__ == "XLMRobertaXLForSequenceClassification"


def test_a_loss_that_is_no_number_stops_the_run(bundle: Bundle, examples: Examples) -> None:
    rows, dev = finetune.encode_rows(examples, bundle.tokenizer, QUICK)
    model = finetune.load_model(bundle, examples.labels, QUICK)
    with torch.no_grad():
        model.classifier.out_proj.bias[0] = float("nan")
    with pytest.raises(TrainingError, match="not a number at step 1") as caught:
        list(finetune.fine_tune(model, rows, dev, QUICK))
    assert "--learning-rate" in caught.value.hint


def scored(values: list[float], model: object) -> Iterator[Step]:
    """An epoch for each value, after which the model's only weight is the epoch's number."""
    for epoch, value in enumerate(values, start=1):
        with torch.no_grad():
            model.weight.fill_(float(epoch))  # type: ignore[attr-defined]
        dev = finetune.DevScore(epoch=epoch, macro_accuracy=value, accuracy_by_language={})
        yield Step(epoch, epoch, 0.0, 1, 0.0, 0.0, 0.0, dev)


@pytest.mark.parametrize(
    ("values", "best"), [([0.1, 0.9, 0.5], 2), ([0.5, 0.5], 1), ([0.1, 0.2], 2), ([0.0], 1)]
)
def test_the_best_epoch_stays(values: list[float], best: int) -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    list(finetune.keep_best(model, scored(values, model)))
    assert float(model.weight.detach()) == best


def test_languages_weigh_the_same_in_the_score(bundle: Bundle, examples: Examples) -> None:
    _, steps = train(bundle, examples, replace(QUICK, epochs=1))
    dev = steps[-1].dev
    assert dev is not None
    assert dev.macro_accuracy == pytest.approx(np.mean(list(dev.accuracy_by_language.values())))


def test_without_dev_the_last_epoch_stands(bundle: Bundle, examples: Examples) -> None:
    _, steps = train(bundle, replace(examples, dev=(), dev_files=()), replace(QUICK, epochs=1))
    assert all(step.dev is None for step in steps)


def test_long_rows_are_cut_and_counted(bundle: Bundle, examples: Examples) -> None:
    rows, dev = finetune.encode_rows(examples, bundle.tokenizer, replace(QUICK, max_tokens=5))
    assert max(rows.lengths) == 5
    assert (rows.truncated, dev.truncated) == (1, 0)


def test_a_missing_extra_prints_the_command(
    bundle: Bundle, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xlmr\[train\]'"):
        finetune.load_model(bundle, examples.labels, QUICK)
