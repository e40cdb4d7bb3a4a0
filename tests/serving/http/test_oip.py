"""The Open Inference Protocol over REST, with JSON and with Triton's bytes behind it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

LENGTH = "inference-header-content-length"


def text_input(texts, shape=None, name="text"):
    return {"name": name, "shape": shape or [len(texts)], "datatype": "BYTES", "data": texts}


def infer(house, model, inputs, **body):
    reply = house.client.post(f"/v2/models/{model}/infer", json={"inputs": inputs} | body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def outputs(house, model, inputs, **body):
    answer = infer(house, model, inputs, **body)
    return {one["name"]: np.reshape(one["data"], one["shape"]) for one in answer["outputs"]}


def refusal(reply, status):
    assert reply.status_code == status, reply.text
    assert set(reply.json()) == {"error"}
    return reply.json()["error"]


def predictor(house, name):
    return house.plane.pool.models[name].predictor


def test_a_classifier(zoo):
    texts = ["where is my parcel", "где посылка"]
    answer = infer(zoo, "classify", [text_input(texts)], id="r-1")
    ref = zoo.plane.pool.models["classify"].ref
    assert (answer["model_name"], answer["model_version"]) == ("classify", ref.version)
    assert answer["id"] == "r-1"
    got = outputs(zoo, "classify", [text_input(texts)])
    expected = predictor(zoo, "classify").classify(texts)
    assert got["labels"].tolist() == [[lb.label for lb in a.labels] for a in expected]
    assert np.allclose(got["scores"], [[lb.score for lb in a.labels] for a in expected], atol=1e-5)
    assert got["tokens"].tolist() == [a.accounting.tokens for a in expected]
    assert got["truncated"].tolist() == [False, False]
    assert got["language"].shape == (2,)


def test_columns_pairs_and_parameters(zoo):
    column = outputs(zoo, "classify", [text_input(["hello", "world"], [2, 1])])
    assert column["scores"].shape == (2, 3)
    pairs = outputs(
        zoo,
        "classify",
        [text_input(["hello", "world", "a", "my"], [2, 2])],
        parameters={"top": 1, "raw_scores": True},
    )
    expected = predictor(zoo, "classify").classify(
        [("hello", "world"), ("a", "my")], top=1, raw_scores=True
    )
    assert np.allclose(pairs["scores"], [[a.score] for a in expected], atol=1e-5)
    nested = text_input(["x"], [2, 1])
    nested["data"] = [["hello"], ["world"]]
    assert outputs(zoo, "classify", [nested])["labels"].tolist() == column["labels"].tolist()


def test_an_embedder_and_an_input_of_any_name(zoo):
    got = outputs(zoo, "embed", [text_input(["hello"], name="args")], parameters={"dimensions": 4})
    expected = predictor(zoo, "embed").embed(["hello"], dimensions=4)[0].vector
    assert np.allclose(got["embedding"], [expected], atol=1e-5)


def test_every_other_task(zoo):
    tags = outputs(zoo, "tag", [text_input(["anna lives in berlin"])])
    expected = predictor(zoo, "tag").tag(["anna lives in berlin"])[0].entities
    assert [e["label"] for e in json.loads(tags["entities"][0])] == [e.label for e in expected]

    inputs = [text_input(["where"], name="question"), text_input(["in berlin"], name="context")]
    answer = outputs(zoo, "answer", inputs, parameters={"must_answer": True})
    span = predictor(zoo, "answer").answer([("where", "in berlin")], must_answer=True)[0]
    assert (answer["answer"][0], answer["start"][0]) == (span.text, span.start)

    inputs = [text_input(["hello"]), text_input(["refund", "delivery"], name="labels")]
    chosen = outputs(zoo, "zero_shot", inputs, parameters={"task": "zero_shot"})
    assert sorted(chosen["labels"][0]) == ["delivery", "refund"]

    ranked = outputs(
        zoo, "rerank", [text_input(["where"], name="query"), text_input(["paris", "berlin"])]
    )
    expected = predictor(zoo, "rerank").rerank("where", ["paris", "berlin"])
    expected.sort(key=lambda one: one.index)
    assert np.allclose(ranked["score"], [one.score for one in expected], atol=1e-5)

    filled = outputs(zoo, "fill", [text_input(["hello <mask>"])], parameters={"top": 2})
    assert len(json.loads(filled["candidates"][0])[0]) == 2


def test_what_is_long_is_cut_and_said_so_or_refused(zoo):
    texts = ["hello", "hello " * 600]
    assert outputs(zoo, "embed", [text_input(texts)])["truncated"].tolist() == [False, True]
    body = {"inputs": [text_input(texts)], "parameters": {"long": "error"}}
    message = refusal(zoo.client.post("/v2/models/embed/infer", json=body), 400)
    assert message.startswith("$.inputs[0].data[1]: 602 tokens")


def test_wanted_outputs(zoo):
    wanted = [{"name": "truncated"}, {"name": "embedding"}]
    answer = infer(zoo, "embed", [text_input(["hello"])], outputs=wanted)
    assert [one["name"] for one in answer["outputs"]] == ["truncated", "embedding"]
    body = {"inputs": [text_input(["hello"])], "outputs": [{"name": "logits"}]}
    assert "$.outputs[0].name" in refusal(zoo.client.post("/v2/models/embed/infer", json=body), 400)


def binary(texts):
    data = b"".join(len(t.encode()).to_bytes(4, "little") + t.encode() for t in texts)
    head = {"name": "text", "shape": [len(texts)], "datatype": "BYTES"}
    return head | {"parameters": {"binary_data_size": len(data)}}, data


def test_bytes_behind_the_json(zoo):
    texts = ["hello", "где посылка", ""]
    head, data = binary(texts)
    said = {"inputs": [head], "parameters": {"binary_data_output": True}}
    start = json.dumps(said).encode()
    reply = zoo.client.post(
        "/v2/models/embed/infer", content=start + data, headers={LENGTH: str(len(start))}
    )
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/octet-stream"
    length = int(reply.headers[LENGTH])
    answer, raw = json.loads(reply.content[:length]), reply.content[length:]
    sizes = [one["parameters"]["binary_data_size"] for one in answer["outputs"]]
    assert sum(sizes) == len(raw)
    assert answer["outputs"][0]["name"] == "embedding"
    vectors = np.frombuffer(raw[: sizes[0]], "<f4").reshape(3, -1)
    expected = [a.vector for a in predictor(zoo, "embed").embed(texts)]
    assert np.allclose(vectors, expected, atol=1e-5)
    language = answer["outputs"][-1]
    assert language["name"] == "language"
    assert raw.endswith(b"\x03\x00\x00\x00und"), "the empty text's language"


def test_outputs_choose_how_they_are_written(zoo):
    wanted = [
        {"name": "labels", "parameters": {"binary_data": True}},
        {"name": "scores", "parameters": {"binary_data": False}},
    ]
    body = {"inputs": [text_input(["hello"])], "outputs": wanted}
    reply = zoo.client.post("/v2/models/classify/infer", json=body)
    length = int(reply.headers[LENGTH])
    labels, scores = json.loads(reply.content[:length])["outputs"]
    assert "data" not in labels
    assert len(scores["data"]) == 3
    assert len(reply.content) - length == labels["parameters"]["binary_data_size"]


@pytest.mark.parametrize(
    ("content", "length", "detail"),
    [
        (b"{}", "9", "inference-header-content-length"),
        (b"{}", "-1", "inference-header-content-length"),
        (b'{"inputs":[]}xx', "13", "2 bytes too many"),
        (b"{", "1", "not JSON"),
    ],
)
def test_lengths_that_do_not_fit(zoo, content, length, detail):
    reply = zoo.client.post("/v2/models/embed/infer", content=content, headers={LENGTH: length})
    assert detail in refusal(reply, 400)


@pytest.mark.parametrize(
    ("data", "size", "detail"),
    [
        (b"\x05\x00\x00\x00hell", 8, "value 0 ends beyond the data"),
        (b"\x01\x00\x00\x00\xff", 5, "not UTF-8"),
        (b"\x01\x00", 2, "value 0 ends beyond the data"),
        (b"\x00\x00\x00\x00", 9, "exceeds the bytes"),
        (b"\x00\x00\x00\x00" * 2, 8, "2 values do not fill shape [1]"),
    ],
)
def test_bytes_that_are_none(zoo, data, size, detail):
    head = {"name": "text", "shape": [1], "datatype": "BYTES"}
    start = json.dumps({"inputs": [head | {"parameters": {"binary_data_size": size}}]}).encode()
    headers = {LENGTH: str(len(start))}
    reply = zoo.client.post("/v2/models/embed/infer", content=start + data, headers=headers)
    assert detail in refusal(reply, 400)


@pytest.mark.parametrize(
    ("inputs", "parameters", "detail"),
    [
        ([], {}, "needs the input text"),
        ([text_input(["a"]), text_input(["b"])], {}, "takes the inputs text"),
        ([text_input(["a"]) | {"datatype": "FP32", "data": [1.0]}], {}, "expected datatype BYTES"),
        ([text_input(["a"], [2])], {}, "1 values do not fill shape [2]"),
        ([text_input(["a", "b"], [1, 2])], {}, "expected shape [B] or [B, 1]"),
        ([text_input([3])], {}, "$.inputs[0].data[0]: expected str, got int"),
        ([text_input([])], {}, "at least one text"),
        ([{"name": "text", "shape": [1], "datatype": "BYTES"}], {}, "no data"),
        ([text_input(["a"])], {"top": 1}, "embed has no parameter"),
        ([text_input(["a"])], {"dimensions": "4"}, "$.parameters.dimensions"),
        ([text_input(["a"])], {"dimensions": 0}, "$.dimensions"),
        ([text_input(["a"])], {"long": "never"}, "$.parameters.long"),
        ([text_input(["a"])], {"task": "write"}, "no such task"),
        ([text_input(["a"])], {"task": "classify"}, "cannot classify"),
        ([text_input(["a"])], {"timeout": "soon"}, "microseconds"),
    ],
)
def test_what_a_task_does_not_take(zoo, inputs, parameters, detail):
    body = {"inputs": inputs, "parameters": parameters}
    message = refusal(zoo.client.post("/v2/models/embed/infer", json=body), 400)
    assert detail in message


def test_answers_and_pairs_need_both(zoo):
    url = "/v2/models/answer/infer"
    body = {"inputs": [text_input(["where"], name="question")]}
    assert "needs the input context" in refusal(zoo.client.post(url, json=body), 400)
    body["inputs"].append(text_input(["a", "b"], name="context"))
    assert "2 values for 1" in refusal(zoo.client.post(url, json=body), 400)


def test_a_deadline_that_passes(zoo):
    body = {"inputs": [text_input(["hello"])], "parameters": {"timeout": 1}}
    reply = zoo.client.post("/v2/models/embed/infer", json=body)
    assert reply.status_code in (429, 503), reply.text
    body["parameters"]["timeout"] = 60_000_000
    assert zoo.client.post("/v2/models/embed/infer", json=body).status_code == 200


def test_other_bodies(zoo):
    url = "/v2/models/embed/infer"
    assert "content-type" in refusal(
        zoo.client.post(url, content=b"{}", headers={"content-type": "text/plain"}), 415
    )
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert "compressed" in refusal(zoo.client.post(url, content=b"x", headers=headers), 415)
    refusal(zoo.client.get(url), 405)


def test_models_and_versions(zoo):
    version = zoo.plane.pool.models["embed"].ref.version
    body = {"inputs": [text_input(["hello"])]}
    url = f"/v2/models/embed/versions/{version}"
    assert zoo.client.post(f"{url}/infer", json=body).json()["model_version"] == version
    refusal(zoo.client.post("/v2/models/none/infer", json=body), 404)
    refusal(zoo.client.post("/v2/models/embed/versions/9/infer", json=body), 404)
    model = zoo.client.get("/v2/models/embed").json()
    assert zoo.client.get(url).json() == model
    assert (model["name"], model["versions"]) == ("embed", [version])
    assert model["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert model["outputs"][0] == {"name": "embedding", "datatype": "FP32", "shape": [-1, -1]}
    refusal(zoo.client.get("/v2/models/none"), 404)
    assert zoo.client.get("/v2/models/embed/ready").json() == {"name": "embed", "ready": True}
    assert zoo.client.get(f"{url}/ready").status_code == 200
    refusal(zoo.client.get("/v2/models/none/ready"), 404)


def test_what_is_not_served_is_refused_in_the_protocols_shape(zoo):
    for path in ("/v2/models/embed/stats", "/v2/logging", "/v2/nowhere"):
        assert "nothing is served here" in refusal(zoo.client.get(path), 404)
    assert "code" in zoo.client.get("/v1/nowhere").json()


def test_a_repository_of_one_directory(house_of, models, tmp_path):
    shutil.copytree(models / "sentences", tmp_path / "again")
    with house_of("router", models_dir=str(tmp_path)) as house:

        def post(path, **body):
            return house.client.post(f"/v2/repository/{path}", json=body)

        def states(**body):
            return {one["name"]: one["state"] for one in post("index", **body).json()}

        assert states() == {"router": "READY"}
        assert "without parameters" in refusal(
            post("models/again/load", parameters={"config": "{}"}), 400
        )
        refusal(post("models/nowhere/load"), 404)
        refusal(post("models/../load"), 404)
        (tmp_path / "broken").mkdir()
        refusal(post("models/broken/load"), 404)
        assert states() == {"router": "READY", "broken": "UNAVAILABLE"}
        assert states(ready=True) == {"router": "READY"}
        assert post("models/again/load").json() == {}
        assert post("models/again/load").status_code == 200, "nothing changes the second time"
        assert states(ready=True) == {"router": "READY", "again": "READY"}
        assert outputs(house, "again", [text_input(["hello"])])["embedding"].shape == (1, 32)
        version = house.plane.pool.models["again"].ref.version
        house.plane.pool.point("again", "kept", version)
        refusal(post("models/again/unload"), 409)
        house.plane.pool.drop_alias("again", "kept")
        assert post("models/again/unload").json() == {}
        refusal(post("models/again/unload"), 404)
        assert "again" not in states()


def test_who_may_not_operate_loads_nothing(house_of, tmp_path):
    with house_of("router", models_dir=str(tmp_path), anonymous_roles="predict") as house:
        for verb in ("load", "unload"):
            refusal(house.client.post(f"/v2/repository/models/router/{verb}", json={}), 403)
        assert house.client.post("/v2/repository/index").status_code == 200


def test_what_metadata_promises_is_given(zoo):
    """Of tasks that take nothing but a text."""
    for name in ("classify", "embed", "tag", "fill"):
        model = zoo.client.get(f"/v2/models/{name}").json()
        given = infer(zoo, name, [text_input(["hello <mask>"])])["outputs"]
        shown = {(o["name"], o["datatype"], len(o["shape"])) for o in given}
        assert {(o["name"], o["datatype"], len(o["shape"])) for o in model["outputs"]} <= shown


def test_server_and_health(zoo, house_of):
    server = zoo.client.get("/v2").json()
    assert (server["name"], server["extensions"]) == (
        "xlmr",
        ["binary_tensor_data", "model_configuration", "model_repository"],
    )
    assert zoo.client.get("/v2/health/live").json() == {"live": True}
    assert zoo.client.get("/v2/health/ready").json() == {"ready": True}
    with house_of("sentences") as house:
        house.plane.drain()
        assert house.client.get("/v2/health/ready").status_code == 503
        refusal(house.client.get("/v2/models/sentences/ready"), 503)
        body = {"inputs": [text_input(["hello"])]}
        refusal(house.client.post("/v2/models/sentences/infer", json=body), 503)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_engine_is_not_live(house_of):
    with house_of("sentences") as house:
        house.gated.fault = KeyboardInterrupt()
        body = {"inputs": [text_input(["hello"])]}
        refusal(house.client.post("/v2/models/sentences/infer", json=body), 500)
        assert house.client.get("/v2/health/live").status_code == 503
        assert house.client.get("/v2/health/ready").status_code == 503
