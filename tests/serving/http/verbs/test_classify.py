"""`POST /v1/classify` over a real socket: answers, item errors, refusals, hostile texts."""

from __future__ import annotations

import json

import pytest

from xlmr.serving.dataplane import Answered, Outcome
from xlmr.serving.http.verbs.classify import render_classified
from xlmr.types import Accounting, Classification, LabelScore, Language, ModelRef

JSON = {"content-type": "application/json"}


def post(house, body: bytes, headers=JSON):
    return house.client.post("/v1/classify", content=body, headers=headers)


def without_ids(*items) -> list[dict]:
    """Items as they are whatever request they answer."""
    return [{name: value for name, value in item.items() if name != "id"} for item in items]


def problem(response, status: int, code: str) -> dict:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"].endswith(code)
    assert body["request_id"] == response.headers["x-request-id"]
    return body


def test_an_answer_says_everything_about_each_text(house):
    reply = house.classify(input=["where is my parcel", "где посылка"], top=2, model="router")
    assert reply.status_code == 200
    body = reply.json()
    served = house.plane.pool.models["router"]
    assert body["model"] == {
        "name": "router",
        "version": served.ref.version,
        "digest": served.ref.digest,
    }
    assert body["id"] == reply.headers["x-request-id"]
    assert [len(item["labels"]) for item in body["items"]] == [2, 2]
    assert [item["id"] for item in body["items"]] == [f"{body['id']}-0", f"{body['id']}-1"]
    assert set(body["items"][0]) == {
        "id",
        "labels",
        "calibrated",
        "tokens",
        "total_tokens",
        "truncated",
        "windows",
        "language",
    }
    assert body["items"][0]["calibrated"] is False
    assert body["items"][0]["truncated"] is False
    assert body["usage"]["tokens"] == sum(item["tokens"] for item in body["items"])


def test_what_a_calibrated_model_decides_is_said():
    answer = Classification(
        labels=(LabelScore("hate", 0.3),),
        accounting=Accounting(tokens=3, total_tokens=3, truncated=False, windows=1, unknown=0),
        language="de",
        calibrated=True,
        abstained=True,
        chosen=("hate",),
    )
    outcome = Outcome(answer=answer, language=Language("de", 0.9))
    answered = Answered("r1", ModelRef("guard", "0" * 64), (outcome,), 3)
    [item] = json.loads(render_classified(answered).body)["items"]
    assert item["calibrated"] is item["abstained"] is True
    assert item["chosen"] == ["hate"]


def test_the_answer_is_the_predictors(house):
    text = "hello world where is my refund"
    expected = house.plane.pool.models["router"].predictor.classify([text])[0]
    labels = house.classify(input=text).json()["items"][0]["labels"]
    assert [(label["label"], label["score"]) for label in labels] == [
        (label.label, pytest.approx(label.score, abs=1e-6)) for label in expected.labels
    ]
    assert sum(label["score"] for label in labels) == pytest.approx(1, abs=1e-5)


def test_512_tokens_pass_and_more_are_cut_and_said_so(house):
    def one(words: int, **options):
        return house.classify(input=" ".join(["hello"] * words), **options)

    specials_and_prompt = one(1).json()["items"][0]["total_tokens"] - 1
    fits = 512 - specials_and_prompt
    item = one(fits).json()["items"][0]
    assert (item["tokens"], item["total_tokens"], item["truncated"]) == (512, 512, False)
    item = one(fits + 1).json()["items"][0]
    assert (item["tokens"], item["total_tokens"], item["truncated"]) == (512, 513, True)
    item = one(fits + 1, long="window").json()["items"][0]
    assert item["windows"] == 2
    assert item["truncated"] is False
    refusal = problem(one(fits + 1, long="error"), 422, "too_long")
    assert refusal["path"] == "$.input"


def test_one_bad_text_does_not_cost_its_neighbours_their_answers(house):
    body = b'{"input": ["hello", "\\ud800 broken", "world"]}'
    reply = post(house, body)
    assert reply.status_code == 200
    first, bad, last = reply.json()["items"]
    assert first["labels"]
    assert last["labels"]
    assert bad["error"]["code"] == "invalid_input"
    assert bad["error"]["path"] == "$.input[1]"
    assert set(bad) == {"id", "error"}
    alone = [house.classify(input=text).json()["items"][0] for text in ("hello", "world")]
    assert without_ids(first, last) == without_ids(*alone)


def test_a_long_text_refused_by_request_stands_beside_answers(house):
    reply = house.classify(input=["hello", "hello " * 600], long="error")
    assert reply.status_code == 200
    assert reply.json()["items"][1]["error"]["path"] == "$.input[1]"


def test_if_every_text_is_bad_the_request_is(house):
    refusal = problem(post(house, b'{"input": ["\\ud800", "\\udfff"]}'), 422, "invalid_input")
    assert refusal["path"] == "$.input[0]"


@pytest.mark.parametrize(
    ("body", "status", "code", "path", "detail"),
    [
        (
            b'{"input": ["a", 3]}',
            422,
            "invalid_input",
            "$.input[1]",
            "expected str | array, got int",
        ),
        (b'{"input": 3}', 422, "invalid_input", "$.input", "expected str | array, got int"),
        (b'{"input": []}', 422, "invalid_input", "$.input", "expected array of length >= 1"),
        (b"{}", 422, "invalid_input", "$", "missing required field input"),
        (b"[]", 422, "invalid_input", "$", "expected object, got array"),
        (b'{"input": "a", "tops": 1}', 422, "invalid_input", "$", "unknown field tops"),
        (b'{"input": "a", "top": 0}', 422, "invalid_input", "$.top", "expected int >= 1"),
        (b'{"input": "a", "top": "1"}', 422, "invalid_input", "$.top", "expected int | null"),
        (b'{"input": "a", "long": "never"}', 422, "invalid_input", "$.long", "allowed values"),
        (b'{"input": "a"', 400, "invalid_json", None, "not JSON"),
        (b"", 400, "invalid_json", None, "not JSON"),
        (b'{"input": "\xff"}', 400, "invalid_json", None, "not UTF-8"),
        (b'{"x": ' + b"[" * 100_000, 422, "invalid_input", "$", "unknown field x"),
        (b'{"input": "a", "model": "none"}', 404, "model_not_found", None, "router, sentences"),
        (b'{"input": "a", "model": "sentences"}', 400, "task_not_supported", None, "classify"),
    ],
)
def test_a_bad_body_is_refused_with_the_place_and_the_fault(
    house, body, status, code, path, detail
):
    refusal = problem(post(house, body), status, code)
    assert refusal.get("path") == path
    assert detail in refusal["detail"]


def test_too_many_texts(house):
    refusal = problem(house.classify(input=["a"] * 257), 422, "too_many_items")
    assert refusal["path"] == "$.input"
    assert "257 texts" in refusal["detail"]


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_other_content_types_are_refused(house, media_type):
    headers = {"content-type": media_type} if media_type else {}
    problem(post(house, b'{"input": "a"}', headers), 415, "unsupported_media_type")


def test_a_content_type_may_carry_parameters(house):
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert post(house, b'{"input": "a"}', headers).status_code == 200


def test_an_oversized_body_is_refused_declared_or_not(house):
    large = json.dumps({"input": "a" * 3_000_000}).encode()
    problem(post(house, large), 413, "body_too_large")

    def chunks():
        for start in range(0, len(large), 65_536):
            yield large[start : start + 65_536]

    problem(
        house.client.post("/v1/classify", content=chunks(), headers=JSON), 413, "body_too_large"
    )
    assert house.classify(input="still here").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/classify", 405, "method_not_allowed"),
        ("POST", "/livez", 405, "method_not_allowed"),
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/classify/", 404, "not_found"),
        ("GET", "/v1/%2e%2e/etc/passwd", 404, "not_found"),
    ],
)
def test_wrong_paths_and_methods(house, method, path, status, code):
    response = house.client.request(method, path)
    problem(response, status, code)
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t\n\u3000 ",
        "\x00",
        "a\x00b",
        "\u202emirrored\u202c",
        "👩‍👩‍👧‍👦" * 50,
        "e" + "\u0301" * 5000,
        "\ufeff\ufffe\uffff",
        "<s> </s> <mask> <pad>",
        "{}[]\"'\\",
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_strange_texts_get_an_answer(house, text):
    reply = house.classify(input=[text, "hello"])
    assert reply.status_code == 200
    strange, plain = reply.json()["items"]
    assert strange["labels"]
    assert 2 <= strange["tokens"] <= 512
    [alone] = house.classify(input="hello").json()["items"]
    assert without_ids(plain) == without_ids(alone)


def test_a_megabyte_of_one_character_is_answered_or_refused(house):
    item = house.classify(input="a" * 1_000_000).json()["items"][0]
    assert item["truncated"]
    assert item["tokens"] == 512
    refusal = problem(house.classify(input="a" * 1_000_001), 422, "too_long")
    assert refusal["path"] == "$.input"


def test_a_pair_of_texts_is_read_together(zoo, ask):
    predictor = zoo.plane.pool.models["classify"].predictor
    pair = ("where is my parcel", "not arrived")
    [expected] = predictor.classify([pair])
    of_pair, of_text = ask("classify", model="classify", input=[list(pair), pair[0]])
    assert [(one["label"], one["score"]) for one in of_pair["labels"]] == [
        (one.label, pytest.approx(one.score, abs=1e-6)) for one in expected.labels
    ]
    assert of_pair["tokens"] == expected.accounting.tokens > of_text["tokens"]


def test_a_head_on_single_vectors_says_that_it_reads_no_pairs(house):
    reply = house.classify(input=["hello", ["a", "b"]])
    good, pair = reply.json()["items"]
    assert good["labels"]
    assert pair["error"]["path"] == "$.input[1]"
    assert "fine-tuned" in pair["error"]["hint"]


def test_the_place_of_a_fault_in_a_pair_is_named(zoo):
    body = b'{"model": "classify", "input": ["a", ["b", "\\ud800"]]}'
    reply = zoo.client.post("/v1/classify", content=body, headers=JSON)
    assert reply.json()["items"][1]["error"]["path"] == "$.input[1][1]"


def test_raw_scores_are_the_outputs_themselves(zoo, ask):
    [expected] = zoo.plane.pool.models["classify"].predictor.classify(["hello"], raw_scores=True)
    [item] = ask("classify", model="classify", input="hello", raw_scores=True)
    assert [one["score"] for one in item["labels"]] == pytest.approx(
        [one.score for one in expected.labels], abs=1e-5
    )
    assert sum(one["score"] for one in item["labels"]) != pytest.approx(1, abs=1e-3)


def test_a_language_the_caller_knows_is_the_one_that_counts(zoo, ask):
    said, found = ask(
        "classify", model="classify", input=["hello", "hello"], languages=["sw", "en"]
    )
    assert said["language"] == {"code": "sw", "confidence": 1.0}
    assert found["language"]["code"] == "en"


def test_languages_stay_with_their_texts_where_one_text_is_bad(zoo):
    body = b'{"model": "classify", "input": ["a", "\\ud800", "b"], "languages": ["sw", "de", "yo"]}'
    first, _, last = zoo.client.post("/v1/classify", content=body, headers=JSON).json()["items"]
    assert (first["language"]["code"], last["language"]["code"]) == ("sw", "yo")


@pytest.mark.parametrize("languages", [[], ["en"], ["en", "de", "fr"]])
def test_not_a_language_for_each_text(zoo, languages):
    body = {"model": "classify", "input": ["a", "b"], "languages": languages}
    refusal = problem(zoo.client.post("/v1/classify", json=body), 422, "invalid_input")
    assert refusal["path"] == "$.languages"


def test_labels_that_do_not_exclude_each_other_are_chosen(zoo, ask):
    [item] = ask("classify", model="multi_label", input="hello")
    reached = [one["label"] for one in item["labels"] if one["score"] >= 0.5]
    assert sorted(item["chosen"]) == sorted(reached)
