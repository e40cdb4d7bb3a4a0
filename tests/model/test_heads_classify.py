from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import tiny_model, write_linear_head

from xlmr.errors import ModelRefusedError, WeightsError
from xlmr.model.bundle import head_file, open_bundle
from xlmr.model.heads.classify import (
    FirstTokenHead,
    LinearHead,
    activation_of,
    document_scores,
    entropy,
    ranked_labels,
    scores,
    sigmoid,
)
from xlmr.model.heads.labels import is_contradiction, is_entailment, parse_labels
from xlmr.model.heads.rerank import falling, relevance
from xlmr.model.heads.zero_shot import Outcomes, fill_template, find_outcomes, label_scores
from xlmr.model.predictor import Predictor, load
from xlmr.model.runtimes.reference import ReferenceRuntime
from xlmr.model.weights import SafetensorsFile

LOGITS = st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=8)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_far_apart_logits_are_no_nan(activation: Any) -> None:
    """Subtracting the largest absolute value instead of the maximum overflows here."""
    found = scores(f32(-60, 35), activation)
    np.testing.assert_allclose(found, [0, 1], atol=1e-6)


@given(LOGITS)
def test_scores_are_probabilities(logits: list[float]) -> None:
    for activation in ("softmax", "sigmoid"):
        found = scores(f32(*logits), activation)  # type: ignore[arg-type]
        assert np.isfinite(found).all()
        assert (found >= 0).all()
        assert (found <= 1).all()


def test_sigmoid() -> None:
    np.testing.assert_allclose(sigmoid(f32(0, 2, -1e30, 1e30)), [0.5, 0.880797, 0, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("problem_type", "outputs", "expected"),
    [
        (None, 3, "softmax"),
        ("single_label_classification", 2, "softmax"),
        ("multi_label_classification", 3, "sigmoid"),
        ("multi_label_classification", 1, "sigmoid"),
        ("regression", 1, "none"),
        ("regression", 3, "none"),
        (None, 1, "none"),
    ],
)
def test_the_problem_decides_the_activation(
    problem_type: str | None, outputs: int, expected: str
) -> None:
    assert activation_of({"problem_type": problem_type}, outputs) == expected


def test_an_unknown_problem_is_refused() -> None:
    with pytest.raises(ModelRefusedError, match="problem_type"):
        activation_of({"problem_type": "ranking"}, 3)


def test_windows_weigh_their_tokens() -> None:
    found = document_scores([f32(1, 0), f32(0, 1)], [30, 10])
    np.testing.assert_allclose(found, [0.75, 0.25])


def test_labels_fall_and_ties_keep_the_models_order() -> None:
    ranked = ranked_labels(f32(0.2, 0.4, 0.2, 0.2), "abcd")
    assert [each.label for each in ranked] == ["b", "a", "c", "d"]
    assert [each.label for each in ranked_labels(f32(0.2, 0.8), "ab", top=1)] == ["b"]


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        ({"id2label": {"0": "no", "1": "yes"}}, ("no", "yes")),
        ({"id2label": {str(i): f"L{i}" for i in range(12)}}, tuple(f"L{i}" for i in range(12))),
        ({"num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({}, ("LABEL_0", "LABEL_1")),
    ],
)
def test_labels_are_read_in_order_of_outputs(config: Any, labels: tuple[str, ...]) -> None:
    assert parse_labels(config) == labels


@pytest.mark.parametrize(
    "config",
    [
        {"id2label": {"0": "no", "2": "yes"}},
        {"id2label": {"0": 4}},
        {"id2label": ["no", "yes"]},
        {"id2label": {}},
        {"num_labels": 0},
    ],
)
def test_labels_with_gaps_are_refused(config: Any) -> None:
    with pytest.raises(ModelRefusedError, match="label"):
        parse_labels(config)


def test_a_head_that_does_not_fit_its_labels(tmp_path: Any) -> None:
    bundle = open_bundle(tiny_model(tmp_path, "classify"))
    with pytest.raises(ModelRefusedError, match="3 outputs for 2 labels"):
        FirstTokenHead.open(bundle.weights(), {"id2label": {"0": "a", "1": "b"}})


def test_a_head_that_is_missing(tmp_path: Any) -> None:
    bundle = open_bundle(tiny_model(tmp_path, "embed"))
    with pytest.raises(WeightsError, match="classifier"):
        FirstTokenHead.open(bundle.weights(), bundle.raw_config)


# --- the linear head ---------------------------------------------------------------------------


def linear_head(tmp_path: Any, **changed: Any) -> LinearHead:
    path = tiny_model(tmp_path, "embed")
    write_linear_head(path, ("refund", "delivery"), changed=changed)
    bundle = open_bundle(path)
    assert bundle.head is not None
    file = SafetensorsFile(head_file(path, bundle.head))
    return LinearHead.open(bundle.head, file, width=bundle.config.hidden)


def test_linear_head_by_hand(tmp_path: Any) -> None:
    head = linear_head(tmp_path)
    hidden_LD = np.random.default_rng(0).standard_normal((5, 32), np.float32)
    mean_D = hidden_LD.mean(axis=0)
    expected = head.weight_CD @ (mean_D / np.linalg.norm(mean_D)) + head.bias_C
    np.testing.assert_allclose(head.logits(hidden_LD), expected, rtol=1e-5, atol=1e-6)
    assert (head.prompt, head.activation, head.pooling.rows) == ("query: ", "softmax", "all")


def test_linear_head_on_the_first_token(tmp_path: Any) -> None:
    head = linear_head(tmp_path, pooling="cls", normalize=False, multi_label=True)
    hidden_LD = np.random.default_rng(0).standard_normal((5, 32), np.float32)
    expected = head.weight_CD @ hidden_LD[0] + head.bias_C
    np.testing.assert_allclose(head.logits(hidden_LD), expected, rtol=1e-5)
    assert (head.activation, head.pooling.rows) == ("sigmoid", "first")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "tree"),
        ("task", "tag"),
        ("labels", []),
        ("labels", ["refund", 4]),
        ("labels", ["only one"]),
        ("multi_label", "yes"),
        ("multi_label", 1),
        ("pooling", "max"),
        ("normalize", None),
        ("prompt", 4),
        ("file", "../model.safetensors"),
        ("file", "gone.safetensors"),
        ("file", None),
    ],
)
def test_a_linear_head_that_is_wrong_is_refused(tmp_path: Any, field: str, value: Any) -> None:
    path = tiny_model(tmp_path, "embed")
    write_linear_head(path, ("refund", "delivery"), changed={field: value})
    with pytest.raises(ModelRefusedError, match=r"xlmr\.json head|xlmr_head"):
        Predictor(open_bundle(path), ReferenceRuntime.open(open_bundle(path)))


# --- rerank and zero-shot ----------------------------------------------------------------------


def test_a_document_is_as_relevant_as_its_best_window() -> None:
    assert relevance([f32(-3), f32(2), f32(1)], raw=True) == 2
    assert relevance([f32(-3), f32(0)], raw=False) == 0.5


def test_falling_order_keeps_ties() -> None:
    assert falling([0.1, 0.9, 0.1, 0.5]) == [1, 3, 0, 2]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("contradiction", "neutral", "entailment"), Outcomes(entailment=2, contradiction=0)),
        (("ENTAILMENT", "NEUTRAL", "CONTRADICTION"), Outcomes(entailment=0, contradiction=2)),
        (("entailment", "not_entailment"), Outcomes(entailment=0, contradiction=1)),
        (("LABEL_0", "LABEL_1", "LABEL_2"), None),
        (("entailment", "neutral"), None),
        (("Entailment", "entails", "contradiction"), None),
    ],
)
def test_outcomes_are_found_by_label(labels: tuple[str, ...], expected: Outcomes | None) -> None:
    assert find_outcomes(labels) == expected


def test_not_entailment_is_no_entailment() -> None:
    assert is_contradiction("Not_Entailment")
    assert not is_entailment("not_entailment")


def test_label_scores_by_hand() -> None:
    logits_NC = np.log(np.array([[1, 1, 3], [2, 1, 1]], np.float32))
    outcomes = Outcomes(entailment=2, contradiction=0)
    exclusive = label_scores(logits_NC, outcomes, multi_label=False)
    np.testing.assert_allclose(exclusive, [0.75, 0.25], rtol=1e-6)
    several = label_scores(logits_NC, outcomes, multi_label=True)
    np.testing.assert_allclose(several, [0.75, 1 / 3], rtol=1e-6)


def test_nothing_in_a_label_is_interpreted() -> None:
    assert fill_template("It is {}. {x}", "{} {0.__class__}") == "It is {} {0.__class__}. {x}"


@pytest.mark.parametrize(
    ("probabilities", "exclusive", "nats"),
    [
        ([1.0, 0.0], True, 0.0),
        ([0.5, 0.5], True, np.log(2)),
        ([0.25] * 4, True, np.log(4)),
        ([1.0, 0.0, 1.0], False, 0.0),
        ([0.5, 0.5], False, 2 * np.log(2)),
        ([0.9], False, -0.9 * np.log(0.9) - 0.1 * np.log(0.1)),
    ],
)
def test_entropy_is_in_nats_and_adds_up_where_labels_do_not_exclude_each_other(
    probabilities, exclusive, nats
):
    found = entropy(np.array(probabilities, np.float32), exclusive=exclusive)
    assert found == pytest.approx(nats, abs=1e-6)


def test_entropy_is_over_all_labels_however_many_were_asked_for(tmp_path):
    with load(tiny_model(tmp_path), runtime="reference") as predictor:
        (whole,) = predictor.classify(["hello world"])
        (cut,) = predictor.classify(["hello world"], top=1)
        (raw,) = predictor.classify(["hello world"], raw_scores=True)
    assert len(cut.labels) == 1
    assert whole.entropy == cut.entropy > 0
    assert raw.entropy is None


def test_values_have_no_entropy(tmp_path):
    with load(tiny_model(tmp_path, "regression"), runtime="reference") as predictor:
        (answer,) = predictor.classify(["hello world"])
    assert answer.entropy is None
