"""`POST /v1/tag` over a real socket."""

from __future__ import annotations

import pytest


def test_the_answer_is_the_predictors(zoo, ask):
    text = "anna lives in paris, berlin! 我住在北京 where is my parcel"
    [expected] = zoo.plane.pool.models["tag"].predictor.tag([text])
    [item] = ask("tag", input=text)
    found = [(e["label"], e["start"], e["end"], e["text"]) for e in item["entities"]]
    assert found == [(e.label, e.start, e.end, e.text) for e in expected.entities]
    assert [e["score"] for e in item["entities"]] == pytest.approx(
        [e.score for e in expected.entities], abs=1e-6
    )
    assert found


@pytest.mark.parametrize(
    "text", ["Anna lives in Berlin", "  我住在北京 ", "👩‍👧 anna\n\u3000paris", "e\u0301 anna"]
)
def test_offsets_cut_the_entity_out_of_the_text_as_it_was_sent(ask, text):
    entities = ask("tag", input=text)[0]["entities"]
    assert entities
    for entity in entities:
        assert text[entity["start"] : entity["end"]] == entity["text"]


def test_words_are_read_joined_by_single_spaces(ask):
    [of_words] = ask("tag", input=[["anna", "lives", "in", "paris"]])
    [of_text] = ask("tag", input="anna lives in paris")
    assert of_words["entities"] == of_text["entities"]
    assert of_words["tokens"] == of_text["tokens"]
    assert of_words["language"] == of_text["language"]


def test_two_words_are_no_pair_of_texts(ask):
    of_words, of_text = ask("tag", input=[["anna", "lives"], "anna lives"])
    assert of_words["tokens"] == of_text["tokens"] == 4


def test_a_long_text_is_tagged_to_its_end_in_windows(zoo, ask):
    text = " ".join(["anna lives in paris"] * 200)
    [cut] = ask("tag", input=text)
    [whole] = ask("tag", input=text, long="window")
    assert cut["truncated"] is True
    assert whole["truncated"] is False
    assert whole["windows"] > 1
    [expected] = zoo.plane.pool.models["tag"].predictor.tag([text], long="window")
    assert [e["start"] for e in whole["entities"]] == [e.start for e in expected.entities]
    assert whole["tokens"] > whole["total_tokens"] == 802


def test_a_broken_word_is_its_own_items_error(zoo):
    reply = zoo.client.post(
        "/v1/tag",
        content=b'{"input": ["anna", ["\\ud800", "b"], "paris"]}',
        headers={"content-type": "application/json"},
    )
    first, bad, last = reply.json()["items"]
    assert "entities" in first
    assert "entities" in last
    assert bad["error"]["path"] == "$.input[1]"


@pytest.mark.parametrize(
    ("given", "path"),
    [([["anna", 3]], "$.input[0][1]"), ([], "$.input"), ({"text": "anna"}, "$.input")],
)
def test_other_shapes_are_refused_by_their_place(zoo, given, path):
    reply = zoo.client.post("/v1/tag", json={"input": given})
    assert (reply.status_code, reply.json()["path"]) == (422, path)
