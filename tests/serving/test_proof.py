"""A version is served only if it does what it promises: each check can fail, and names itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tiny import KINDS, tiny_model

from xlmr.errors import DigestMismatchError, ModelRefusedError, ProofError
from xlmr.evaluation.golden import GOLDEN_FILE, Golden, make_golden
from xlmr.model.bundle import open_bundle
from xlmr.model.config import EncoderConfig
from xlmr.model.predictor import Predictor
from xlmr.model.runtimes.reference import ReferenceRuntime
from xlmr.serving import workers
from xlmr.serving.pool import open_pool
from xlmr.serving.proof import prove
from xlmr.settings import Settings
from xlmr.telemetry.metrics import Metrics
from xlmr.types import Batch, Hidden, Rows


def opened(path: Path) -> Predictor:
    bundle = open_bundle(path)
    return Predictor(bundle, ReferenceRuntime.open(bundle))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return opened(tiny_model(tmp_path_factory.mktemp("proof"), "classify"))


def write_golden(predictor: Predictor, golden: Golden) -> None:
    text = json.dumps(golden.to_json(), ensure_ascii=False)
    (predictor.bundle.directory / GOLDEN_FILE).write_text(text, encoding="utf-8")


class Broken:
    """A runtime whose vectors are not those of the model."""

    name = "broken"

    def __init__(self, predictor: Predictor, value: float) -> None:
        self.inner = predictor.runtime
        self.value = value

    @property
    def config(self) -> EncoderConfig:
        return self.inner.config

    @property
    def max_batch_tokens(self) -> int:
        return self.inner.max_batch_tokens

    def warm(self) -> None:
        """Nothing to warm."""

    def close(self) -> None:
        """Nothing to close."""

    def run(self, batch: Batch, *, rows: Rows = "all") -> Hidden:
        hidden = self.inner.run(batch, rows=rows)
        return Hidden(hidden.hidden_TD + np.float32(self.value), hidden.starts)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_proven_in_every_task_it_has(tmp_path, kind):
    predictor = opened(tiny_model(tmp_path, kind))
    proof = prove(predictor, precision="fp32")
    assert proof.tasks == tuple(sorted(predictor.tasks))
    assert proof.digest == predictor.bundle.digest
    assert proof.tokenizer == predictor.bundle.tokenizer.fingerprint
    assert proof.golden_inputs is None


def test_golden_inputs_are_asked_again(classifier):
    write_golden(classifier, make_golden(classifier, {}))
    assert prove(classifier, precision="fp32").golden_inputs == 17
    broken = Predictor(classifier.bundle, Broken(classifier, 0.3))
    with pytest.raises(ProofError, match=r"golden inputs: \d+ of 17 answers moved: \w+.* by "):
        prove(broken, precision="fp32")


def test_every_worker_is_asked_before_a_version_is_ready(classifier, monkeypatch):
    write_golden(classifier, make_golden(classifier, {}))
    settings = Settings(runtime="reference", workers=3)
    place = str(classifier.bundle.directory)

    def opening(*values: float) -> list[Any]:
        found = [Broken(classifier, value) for value in values]
        monkeypatch.setattr(workers, "start_workers", lambda *_, **__: found)
        return found

    opening(0.0, 0.0, 0.3)
    with pytest.raises(ProofError, match="golden inputs"):
        open_pool([place], settings, Metrics())
    opening(0.0, float("nan"), 0.0)
    (classifier.bundle.directory / GOLDEN_FILE).unlink()
    with pytest.raises(ProofError, match="not an answer in finite numbers"):
        open_pool([place], settings, Metrics())
    opening(0.0, 0.0, 0.0)
    open_pool([place], settings, Metrics()).close()


def test_a_tokenizer_that_the_promises_were_not_made_with_is_refused(classifier):
    golden = make_golden(classifier, {})
    assert golden.tokenizer == classifier.bundle.tokenizer.fingerprint
    write_golden(classifier, replace(golden, tokenizer="0" * 64))
    with pytest.raises(ProofError, match="tokenizer: it is not the one"):
        prove(classifier, precision="fp32")
    # Models from before this was noted promise nothing about it.
    write_golden(classifier, replace(golden, tokenizer=""))
    assert prove(classifier, precision="fp32").golden_inputs == 17


def test_promises_that_cannot_be_read_are_refused(classifier):
    (classifier.bundle.directory / GOLDEN_FILE).write_text('{"format": 9}')
    with pytest.raises(ModelRefusedError, match=r"golden\.json"):
        prove(classifier, precision="fp32")
    (classifier.bundle.directory / GOLDEN_FILE).unlink()


def test_answers_that_are_no_numbers_are_refused(classifier):
    broken = Predictor(classifier.bundle, Broken(classifier, float("nan")))
    with pytest.raises(ProofError, match="a text of 513 tokens: classify: not an answer"):
        prove(broken, precision="fp32")


def test_a_digest_that_was_promised_is_held(classifier):
    with pytest.raises(DigestMismatchError, match="promised was"):
        prove(classifier, precision="fp32", promised_digest="f" * 64)
    prove(classifier, precision="fp32", promised_digest=classifier.bundle.digest)


def test_models_that_read_less_are_tried_at_their_own_length(tmp_path):
    predictor = opened(tiny_model(tmp_path, "tag", positions=34))
    asked: list[int] = []
    encode = predictor.prepare

    def noted(task, items, options):
        prepared = encode(task, items, options)
        asked.extend(len(encoding.ids) for encoding in prepared.encodings)
        return prepared

    predictor.prepare = noted
    prove(predictor, precision="fp32")
    assert asked == [32]
