"""Mistakes that servers of this kind make in their answers, each held against ours over a socket.

Positions that do not exist, cuts that nobody is told of, scores of the wrong kind, characters
counted as tokens, entities that are not where they are said to be, one text that fails them all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.serving.conftest import House, running
from tests.serving.http.conftest import zoo as zoo
from tests.tiny import tiny_model

JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Verb:
    """A verb, and a body for it with given texts.

    `specials` counts the tokens of a reading that are not the text's; `long`: whether a request
    says what becomes of long texts.
    """

    name: str
    body: Callable[[list[str]], dict[str, Any]]
    specials: int = 2
    long: bool = True
    items: str = "items"

    def post(self, house: House, texts: list[str], **options: Any) -> Any:
        # Texts may hold what httpx refuses to encode: half a surrogate pair.
        content = json.dumps({**self.body(texts), **options}).encode()
        return house.client.post(f"/v1/{self.name}", content=content, headers=JSON)

    def facts(self, reply: Any) -> list[dict[str, Any]]:
        """The items of an answer, in the order of the texts."""
        assert reply.status_code == 200, reply.text
        items = reply.json()[self.items]
        return sorted(items, key=lambda item: int(item["id"].rpartition("-")[2]))


VERBS = [
    Verb("classify", lambda texts: {"model": "classify", "input": texts}),
    Verb("tag", lambda texts: {"input": texts}),
    Verb("fill", lambda texts: {"input": [f"<mask> {t}" for t in texts]}, specials=3, long=False),
    Verb("embeddings", lambda texts: {"model": "embed", "input": texts}, items="data"),
    Verb("tokenize", lambda texts: {"model": "embed", "input": texts}),
    Verb("similarity", lambda texts: {"model": "embed", "source": "hello", "sentences": texts}),
    Verb(
        "answer",
        lambda texts: {
            "input": [{"question": "hello", "context": text} for text in texts],
            "long": "truncate",
        },
        specials=5,
    ),
    Verb(
        "rerank",
        lambda texts: {"model": "rerank", "query": "hello", "documents": texts},
        specials=5,
        items="results",
    ),
]
every_verb = pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)


def words(count: int) -> str:
    """A text of so many tokens, special ones not counted."""
    return " ".join(["hello"] * count)


@every_verb
def test_trap_1_a_text_of_513_tokens_is_answered_by_every_verb(zoo, verb):
    """514 position rows hold 512 tokens: the first two rows are never a token's."""
    fits = words(512 - verb.specials)
    for text, total in ((fits, 512), (f"{fits} hello", 513), (f"{fits} hello hello", 514)):
        [item] = verb.facts(verb.post(zoo, [text]))
        assert item["total_tokens"] == total
        assert item["tokens"] == 512
        assert item["truncated"] is (total > 512)


def test_trap_1_zero_shot_makes_room_for_its_hypotheses(zoo):
    for count in (400, 512, 600):
        reply = zoo.client.post(
            "/v1/zero-shot", json={"input": words(count), "labels": ["paris", "berlin"]}
        )
        [item] = reply.json()["items"]
        assert item["tokens"] <= 2 * 512
        assert item["total_tokens"] == count + 2
        assert item["truncated"] is (count > 500)
        assert not any(math.isnan(one["score"]) for one in item["labels"])


@every_verb
def test_trap_2_a_cut_is_said_where_it_was_made_and_only_there(zoo, verb):
    short, long, last = verb.facts(verb.post(zoo, ["hello", words(700), "world"]))
    assert [item["truncated"] for item in (short, long, last)] == [False, True, False]
    assert long["total_tokens"] > long["tokens"]


@pytest.mark.parametrize("verb", [v for v in VERBS if v.long], ids=lambda verb: verb.name)
def test_trap_2_a_cut_can_be_forbidden(zoo, verb):
    refusal = verb.post(zoo, [words(700)], long="error")
    assert refusal.status_code == 422
    body = refusal.json()
    assert body.get("error", body)["code"] == "too_long"


@pytest.mark.parametrize(
    "verb", [v for v in VERBS if v.long and v.name != "tokenize"], ids=lambda verb: verb.name
)
def test_trap_2_a_long_text_can_be_read_whole(zoo, verb):
    [item] = verb.facts(verb.post(zoo, [words(700)], long="window"))
    assert item["truncated"] is False
    assert item["windows"] > 1
    assert item["tokens"] > item["total_tokens"] > 700


def with_outputs(directory: Path, outputs: list[float]) -> Path:
    """Has a sequence classification head say the same of every text."""
    file = directory / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    weights["classifier.out_proj.weight"].zero_()
    weights["classifier.out_proj.bias"] = torch.tensor(outputs)
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})
    return directory


@pytest.fixture(scope="module")
def extreme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("extreme")
    models = {"classify": [-60.0, 35.0, -60.0], "multi_label": [-60.0, 35.0, 35.0]}
    places = [str(with_outputs(tiny_model(root, kind), said)) for kind, said in models.items()]
    with running(places, cache_dir=root) as house:
        yield house


def scores(house: House, model: str) -> dict[str, float]:
    [item] = house.classify(model=model, input="hello").json()["items"]
    return {one["label"]: one["score"] for one in item["labels"]}


def test_trap_3_labels_that_do_not_exclude_each_other_are_no_softmax(extreme):
    found = scores(extreme, "multi_label")
    # Two labels are all but certain; a softmax would give each a half.
    assert found == {
        "urgent": pytest.approx(1, abs=1e-6),
        "polite": pytest.approx(1, abs=1e-6),
        "angry": pytest.approx(0, abs=1e-6),
    }


def test_trap_3_a_softmax_of_minus_60_and_35_is_finite(extreme):
    found = scores(extreme, "classify")
    assert found["delivery"] == pytest.approx(1, abs=1e-6)
    assert sum(found.values()) == pytest.approx(1, abs=1e-6)
    assert all(math.isfinite(score) for score in found.values())


def test_trap_3_a_value_is_no_probability(zoo):
    [item] = zoo.classify(model="regression", input="hello").json()["items"]
    [expected] = zoo.plane.pool.models["regression"].predictor.classify(["hello"])
    assert item["labels"] == [{"label": "stars", "score": pytest.approx(expected.score, abs=1e-5)}]
    assert item["labels"][0]["score"] != 1.0


@every_verb
def test_trap_13_usage_counts_tokens_and_no_characters(zoo, verb):
    texts = ["hello world", "你好", "hello"]
    reply = verb.post(zoo, texts)
    tokens = [item["tokens"] for item in verb.facts(reply)]
    # One token a word, 你好 among them, and what surrounds them.
    assert tokens == [verb.specials + 2, verb.specials + 1, verb.specials + 1]
    computed = sum(tokens)
    if verb.name == "similarity":
        computed += 3
    if verb.name == "tokenize":
        computed = 0
    assert set(reply.json()["usage"].values()) == {computed}


@pytest.mark.parametrize(
    "text",
    [
        "anna lives in paris",
        "  anna  lives\tin\nparis  ",
        "我住在北京",
        " 我 住在 北京 ",
        "привет, мир!",
        "👩‍👩‍👧 anna 👍🏽 paris",
        "e\u0301 pa\u0301ris",
        "שלום מרחבא",
        "anna",
    ],
    ids=ascii,
)
def test_trap_15_entities_are_whole_words_and_stand_where_it_is_said(zoo, text):
    [item] = zoo.client.post("/v1/tag", json={"input": text}).json()["items"]
    assert item["entities"]
    last = 0
    for entity in item["entities"]:
        start, end = entity["start"], entity["end"]
        assert text[start:end] == entity["text"] == entity["text"].strip() != ""
        assert last <= start < end <= len(text)
        assert entity["label"] in ("PER", "LOC")
        last = end
        # Letters of a script that puts spaces between words are never divided.
        if text.isascii():
            assert start == 0 or not text[start - 1].isalnum()
            assert end == len(text) or not text[end].isalnum()


def test_trap_15_special_tokens_are_never_part_of_an_entity(zoo):
    [item] = zoo.client.post("/v1/tag", json={"input": ""}).json()["items"]
    assert (item["entities"], item["tokens"]) == ([], 2)


@pytest.mark.parametrize(
    "context", ["我住在北京", "我住在北京。你好世界", "東京こんにちは", "สวัสดี北京"]
)
def test_trap_15_answers_are_found_in_scripts_without_spaces(zoo, context):
    reply = zoo.client.post(
        "/v1/answer",
        json={"input": {"question": "北京?", "context": context}, "must_answer": True},
    )
    [item] = reply.json()["items"]
    assert item["answer"]
    assert context[item["start"] : item["end"]] == item["answer"]


@pytest.mark.starter
def test_trap_15_ids_are_those_of_fairseq(starter, tmp_path):
    with running([str(starter)], cache_dir=tmp_path) as house:
        [item] = house.client.post("/v1/tokenize", json={"input": "Hello world!"}).json()["items"]
        assert item["ids"] == [0, 35378, 8999, 38, 2]
        assert item["pieces"] == ["<s>", "▁Hello", "▁world", "!", "</s>"]
        assert item["offsets"] == [[0, 0], [0, 5], [6, 11], [11, 12], [0, 0]]
        [text] = house.client.post("/v1/detokenize", json={"input": item["ids"]}).json()["items"]
        assert text["text"] == "Hello world!"


@pytest.mark.parametrize(
    "verb", [v for v in VERBS if v.name not in ("embeddings", "rerank")], ids=lambda verb: verb.name
)
def test_one_bad_text_costs_its_neighbours_nothing(zoo, verb):
    first, bad, last = verb.facts(verb.post(zoo, ["hello", "\ud800 broken", "world"]))
    assert bad["error"]["code"] == "invalid_input"
    assert "[1]" in bad["error"]["path"]
    assert set(bad) == {"id", "error"}
    alone = [verb.facts(verb.post(zoo, [text]))[0] for text in ("hello", "world")]
    for item, single in zip((first, last), alone, strict=True):
        assert "error" not in item
        assert item | {"id": ""} == single | {"id": ""}


def test_one_bad_document_costs_its_neighbours_nothing(zoo):
    verb = next(v for v in VERBS if v.name == "rerank")
    reply = verb.post(zoo, ["hello", "\ud800 broken", "world"])
    found = {item["index"]: item["relevance_score"] for item in verb.facts(reply)}
    whole = verb.post(zoo, ["hello", "hello", "world"])
    expected = {item["index"]: item["relevance_score"] for item in verb.facts(whole)}
    assert found == {0: pytest.approx(expected[0]), 2: pytest.approx(expected[2])}
    assert [fault["index"] for fault in reply.json()["errors"]] == [1]


@every_verb
def test_where_every_text_is_bad_the_request_is_refused(zoo, verb):
    assert verb.post(zoo, ["\ud800", "\udfff"]).status_code == 422
