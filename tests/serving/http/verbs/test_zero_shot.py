"""`POST /v1/zero-shot` over a real socket."""

from __future__ import annotations

import pytest

from xlmr.serving.preparation import MOST_READINGS


def test_the_answer_is_the_predictors(zoo, ask):
    texts, labels = ["where is my parcel", "你好"], ["delivery", "hello", "money"]
    expected = zoo.plane.pool.models["zero_shot"].predictor.zero_shot(
        texts, labels, template="It says {}.", multi_label=True
    )
    items = ask("zero-shot", input=texts, labels=labels, template="It says {}.", multi_label=True)
    for item, answer in zip(items, expected, strict=True):
        assert [(one["label"], one["score"]) for one in item["labels"]] == [
            (one.label, pytest.approx(one.score, abs=1e-6)) for one in answer.labels
        ]
        assert item["calibrated"] is False


def test_labels_that_exclude_each_other_sum_to_one(ask):
    [item] = ask("zero-shot", input="hello", labels=["a", "b", "c"])
    assert sum(one["score"] for one in item["labels"]) == pytest.approx(1, abs=1e-5)
    scores = [one["score"] for one in item["labels"]]
    assert scores == sorted(scores, reverse=True)


def test_tokens_count_every_reading(ask):
    [one] = ask("zero-shot", input="hello", labels=["paris"])
    [two] = ask("zero-shot", input="hello", labels=["paris", "paris"])
    assert two["tokens"] == 2 * one["tokens"]
    assert two["total_tokens"] == one["total_tokens"] == 3


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"labels": []}, "$.labels"),
        ({"labels": ["a", 3]}, "$.labels[1]"),
        ({"labels": ["a"], "template": "no place"}, "$.template"),
        ({"labels": ["a", "hello " * 500]}, "$.labels[1]"),
        ({"labels": ["a"] * (MOST_READINGS + 1)}, "$.labels"),
        ({}, "$"),
    ],
)
def test_options_that_cannot_be_are_refused_by_their_place(zoo, body, path):
    reply = zoo.client.post("/v1/zero-shot", json={"input": "hello", **body})
    assert (reply.status_code, reply.json()["path"]) == (422, path)


def test_a_broken_label_is_the_requests_fault_and_no_texts(zoo):
    reply = zoo.client.post(
        "/v1/zero-shot",
        content=b'{"input": ["a", "b"], "labels": ["x", "\\ud800"]}',
        headers={"content-type": "application/json"},
    )
    assert (reply.status_code, reply.json()["path"]) == (422, "$.labels[1]")


def test_a_broken_text_is_its_own_items_error(zoo):
    reply = zoo.client.post(
        "/v1/zero-shot",
        content=b'{"input": ["a", "\\ud800"], "labels": ["x", "y"]}',
        headers={"content-type": "application/json"},
    )
    good, bad = reply.json()["items"]
    assert len(good["labels"]) == 2
    assert bad["error"]["path"] == "$.input[1]"
