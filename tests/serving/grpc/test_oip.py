"""The Open Inference Protocol's messages over a real socket, values raw and in contents."""

from __future__ import annotations

import json
import shutil

import grpc
import numpy as np
import pytest

from xlmr.serving.grpc.messages import inference

SERVICE = "inference.GRPCInferenceService"


def tensor(texts, *, name="text", shape=None, raw=False):
    contents = None if raw else {"bytes_contents": [text.encode() for text in texts]}
    return inference.ModelInferRequest.InferInputTensor(
        name=name, datatype="BYTES", shape=shape or [len(texts)], contents=contents
    )


def packed(texts):
    return b"".join(len(t.encode()).to_bytes(4, "little") + t.encode() for t in texts)


def parameters(**said):
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param"}
    return {
        name: inference.InferParameter(**{kinds[type(value)]: value})
        for name, value in said.items()
    }


def request(model, *inputs, outputs=(), raw=(), **said):
    wanted = inference.ModelInferRequest.InferRequestedOutputTensor
    return inference.ModelInferRequest(
        model_name=model,
        inputs=inputs,
        parameters=parameters(**said),
        outputs=[wanted(name=name) for name in outputs],
        raw_input_contents=raw,
    )


def refused(status, call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is status, caught.value
    return caught.value.details()


@pytest.fixture(scope="module")
def infer(client):
    return lambda *given, **said: client(SERVICE, "ModelInfer", request(*given, **said))


@pytest.fixture(scope="module")
def predictors(served):
    return {name: one.predictor for name, one in served.plane.pool.models.items()}


def test_values_in_contents_come_back_in_contents(served, infer, predictors):
    reply = infer("classify", tensor(["hello", "где посылка"]), top=2)
    ref = served.plane.pool.models["classify"].ref
    assert (reply.model_name, reply.model_version) == (ref.name, ref.version)
    outputs = {output.name: output for output in reply.outputs}
    expected = predictors["classify"].classify(["hello", "где посылка"], top=2)
    assert list(outputs["labels"].shape) == [2, 2]
    assert [label.decode() for label in outputs["labels"].contents.bytes_contents] == [
        label.label for one in expected for label in one.labels
    ]
    assert np.allclose(
        outputs["scores"].contents.fp32_contents,
        [label.score for one in expected for label in one.labels],
        atol=1e-5,
    )
    assert list(outputs["tokens"].contents.int_contents) == [
        one.accounting.tokens for one in expected
    ]
    assert list(outputs["truncated"].contents.bool_contents) == [False, False]
    assert not reply.raw_output_contents


def test_raw_values_come_back_raw(infer, predictors):
    texts = ["hello", "где посылка"]
    reply = infer("embed", tensor(texts, raw=True), raw=[packed(texts)], outputs=["embedding"])
    [output], [raw] = reply.outputs, reply.raw_output_contents
    vectors = np.frombuffer(raw, "<f4").reshape(output.shape)
    expected = [one.vector for one in predictors["embed"].embed(texts)]
    assert np.allclose(vectors, expected, atol=1e-5)


def test_tasks_with_several_inputs(infer, predictors):
    reply = infer("tag", tensor(["anna lives in berlin"]), outputs=["entities"])
    entities = json.loads(reply.outputs[0].contents.bytes_contents[0])
    assert entities
    assert [one["text"] for one in entities] == [
        one.text for one in predictors["tag"].tag(["anna lives in berlin"])[0].entities
    ]
    inputs = [tensor(["where"], name="query"), tensor(["paris", "berlin"])]
    scores = infer("rerank", *inputs, outputs=["score"]).outputs[0].contents.fp32_contents
    expected = predictors["rerank"].rerank("where", ["paris", "berlin"])
    assert np.argmax(scores) == expected[0].index
    inputs = [tensor(["hello"]), tensor(["refund", "delivery"], name="labels")]
    reply = infer("zero_shot", *inputs, task="zero_shot", outputs=["labels"])
    assert sorted(reply.outputs[0].contents.bytes_contents) == [b"delivery", b"refund"]


def test_what_cannot_be_asked(infer):
    def invalid(*given, **said):
        return refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: infer(*given, **said))

    assert "0 raw" not in invalid("embed", tensor(["a"]), raw=[b"", b""])
    assert "$.raw_input_contents[0]" in invalid("embed", tensor(["a"]), raw=[b"\x09\0\0\0"])
    assert "no parameter" in invalid("embed", tensor(["a"]), tops=1)
    assert "fill shape" in invalid("embed", tensor(["a"], shape=[2]))
    assert "$.outputs[0].name" in invalid("embed", tensor(["a"]), outputs=["logits"])
    broken = tensor(["a"])
    broken.contents.bytes_contents[0] = b"\xff"
    assert "bytes_contents[0]: not UTF-8" in invalid("embed", broken)
    refused(grpc.StatusCode.NOT_FOUND, lambda: infer("none", tensor(["a"])))


def test_server_and_models(served, client):
    version = served.plane.pool.models["embed"].ref.version
    assert client(SERVICE, "ServerLive", inference.ServerLiveRequest()).live
    assert client(SERVICE, "ServerReady", inference.ServerReadyRequest()).ready
    assert client(SERVICE, "ServerMetadata", inference.ServerMetadataRequest()).name == "xlmr"
    for name, given, ready in (
        ("embed", "", True),
        ("embed", version, True),
        ("embed", "9", False),
        ("none", "", False),
    ):
        message = inference.ModelReadyRequest(name=name, version=given)
        assert client(SERVICE, "ModelReady", message).ready is ready
    model = client(SERVICE, "ModelMetadata", inference.ModelMetadataRequest(name="embed"))
    assert list(model.versions) == [version]
    assert (model.outputs[0].name, list(model.outputs[0].shape)) == ("embedding", [-1, -1])
    assert model.properties["tasks"] == "embed"
    refused(
        grpc.StatusCode.NOT_FOUND,
        lambda: client(SERVICE, "ModelMetadata", inference.ModelMetadataRequest(name="none")),
    )


def test_a_repository_of_one_directory(house_of, client_of, models, tmp_path):
    shutil.copytree(models / "sentences", tmp_path / "again")
    with house_of("router", models_dir=str(tmp_path), grpc_port=0) as house:
        client = client_of(house)
        load = inference.RepositoryModelLoadRequest(model_name="again")
        unload = inference.RepositoryModelUnloadRequest(model_name="again")
        other = inference.RepositoryModelLoadRequest(model_name="again")
        other.parameters["config"].string_param = "{}"

        def ready():
            index = inference.RepositoryIndexRequest(ready=True)
            return [one.name for one in client(SERVICE, "RepositoryIndex", index).models]

        said = refused(
            grpc.StatusCode.INVALID_ARGUMENT, lambda: client(SERVICE, "RepositoryModelLoad", other)
        )
        assert "without parameters" in said
        client(SERVICE, "RepositoryModelLoad", load)
        assert client.trailing["x-request-id"]
        assert ready() == ["router", "again"]
        reply = client(SERVICE, "ModelInfer", request("again", tensor(["hello"])))
        assert reply.model_name == "again"
        client(SERVICE, "RepositoryModelUnload", unload)
        assert ready() == ["router"]
        refused(grpc.StatusCode.NOT_FOUND, lambda: client(SERVICE, "RepositoryModelUnload", unload))
