"""`POST /v1/fill` over a real socket."""

from __future__ import annotations

import pytest


def test_the_answer_is_the_predictors(zoo, ask):
    text = "hello <mask> where is my <mask>"
    [expected] = zoo.plane.pool.models["fill"].predictor.fill([text], top=3)
    [item] = ask("fill", input=text, top=3)
    assert [[one["text"] for one in mask] for mask in item["masks"]] == [
        [one.label for one in mask] for mask in expected.masks
    ]
    scores = [one["score"] for mask in item["masks"] for one in mask]
    assert scores == pytest.approx([one.score for mask in expected.masks for one in mask], abs=1e-6)
    assert len(scores) == 6


def test_a_text_without_a_mask_is_its_own_items_error(ask):
    good, bad = ask("fill", input=["hello <mask>", "hello world"])
    assert len(good["masks"][0]) == 5
    assert bad["error"]["path"] == "$.input[1]"
    assert "masks" not in bad


def test_masks_beyond_the_models_length_are_said_to_be_cut_off(ask):
    read, cut = ask("fill", input=["<mask> " + "hello " * 600, "hello " * 600 + "<mask>"])
    assert (len(read["masks"]), read["truncated"]) == (1, True)
    assert "part that the model reads" in cut["error"]["message"]


def test_more_masks_than_are_filled_are_refused_before_they_cost_anything(zoo):
    before = len(zoo.gated.texts)
    reply = zoo.client.post("/v1/fill", json={"input": ["<mask> " * 33] * 2})
    assert (reply.status_code, reply.json()["path"]) == (422, "$.input")
    assert "66 masks" in reply.json()["detail"]
    assert len(zoo.gated.texts) == before


@pytest.mark.parametrize("top", [0, 1001, "3", 10**6])
def test_a_number_of_candidates_that_there_cannot_be_is_refused(zoo, top):
    reply = zoo.client.post("/v1/fill", json={"input": "<mask>", "top": top})
    assert (reply.status_code, reply.json()["path"]) == (422, "$.top")
