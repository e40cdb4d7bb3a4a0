"""Triton's clients, over HTTP (with its binary tensors, which are its default) and gRPC."""

from __future__ import annotations

import queue

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module", params=["http", "grpc"])
def triton(request, serving):
    """The package of a transport, and a client of it."""
    package = getattr(tritonclient, request.param)
    address = serving.address if request.param == "http" else serving.grpc_address
    client = package.InferenceServerClient(address.removeprefix("http://"))
    yield package, client
    client.close()


def texts(package, values, *, name="text", shape=None, **options):
    tensor = package.InferInput(name, shape or [len(values)], "BYTES")
    data = np.array(values, dtype=object).reshape(shape or [len(values)])
    tensor.set_data_from_numpy(data, **options)
    return tensor


def strings(array):
    return [value.decode() for value in array.ravel()]


def test_server_and_model(serving, triton):
    _, client = triton
    version = serving.plane.pool.models["embed"].ref.version
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("embed")
    assert client.is_model_ready("embed", version)
    assert not client.is_model_ready("none")
    server, model = client.get_server_metadata(), client.get_model_metadata("embed")
    if not isinstance(model, dict):
        server, model = {"name": server.name}, {"name": model.name, "versions": model.versions}
    assert server["name"] == "xlmr"
    assert (model["name"], list(model["versions"])) == ("embed", [version])


def test_configuration_and_repository(serving, triton):
    package, client = triton
    over_http = package is tritonclient.http
    said = {} if over_http else {"as_json": True}
    config = client.get_model_config("embed", **said)
    config = config if over_http else config["config"]
    assert config["input"] == [
        {"name": "text", "data_type": "TYPE_STRING", "dims": [-1] if over_http else ["-1"]}
    ]
    assert config["output"][0]["data_type"] == "TYPE_FP32"
    index = client.get_model_repository_index(**said)
    index = index if over_http else index["models"]
    assert {(one["name"], one["state"]) for one in index} == {
        (name, "READY") for name in ("embed", "classify", "rerank")
    }
    # This server has no models directory, and says so to whoever would load from it.
    with pytest.raises(InferenceServerException, match="--models-dir"):
        client.load_model("embed")
    with pytest.raises(InferenceServerException, match="no model of that name"):
        client.unload_model("none")


def test_extensions_that_are_not_here(triton):
    package, client = triton
    words = "nothing is served here" if package is tritonclient.http else "Method not found"
    for ask in (
        lambda: client.get_inference_statistics("embed"),
        client.get_log_settings,
        client.get_trace_settings,
        client.get_system_shared_memory_status,
    ):
        with pytest.raises(InferenceServerException, match=words):
            ask()


def test_an_embedder(serving, triton):
    package, client = triton
    given = ["hello", "где посылка", ""]
    result = client.infer("embed", [texts(package, given)], request_id="r-1")
    expected = [one.vector for one in serving.plane.pool.models["embed"].predictor.embed(given)]
    vectors = result.as_numpy("embedding")
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, expected, atol=1e-5)
    assert result.as_numpy("truncated").tolist() == [False] * 3
    assert result.as_numpy("tokens").dtype == np.int32
    response = result.get_response()
    assert (response["id"] if isinstance(response, dict) else response.id) == "r-1"


def test_a_classifier_with_options_and_wanted_outputs(serving, triton):
    package, client = triton
    result = client.infer(
        "classify",
        [texts(package, ["hello", "world", "a", "my"], shape=[2, 2])],
        outputs=[
            package.InferRequestedOutput("labels"),
            package.InferRequestedOutput("scores"),
        ],
        parameters={"top": 2},
    )
    predictor = serving.plane.pool.models["classify"].predictor
    expected = predictor.classify([("hello", "world"), ("a", "my")], top=2)
    assert strings(result.as_numpy("labels")) == [
        label.label for one in expected for label in one.labels
    ]
    assert result.as_numpy("scores").shape == (2, 2)
    assert result.as_numpy("tokens") is None


def test_a_ranker_takes_two_tensors(serving, triton):
    package, client = triton
    inputs = [texts(package, ["where"], name="query"), texts(package, ["paris", "berlin"])]
    scores = client.infer("rerank", inputs).as_numpy("score")
    expected = serving.plane.pool.models["rerank"].predictor.rerank("where", ["paris", "berlin"])
    assert int(np.argmax(scores)) == expected[0].index


def test_values_in_the_json(serving):
    client = tritonclient.http.InferenceServerClient(serving.address.removeprefix("http://"))
    package = tritonclient.http
    tensor = texts(package, ["hello"], binary_data=False)
    wanted = [package.InferRequestedOutput("embedding", binary_data=False)]
    result = client.infer("embed", [tensor], outputs=wanted)
    [expected] = serving.plane.pool.models["embed"].predictor.embed(["hello"])
    assert np.allclose(result.as_numpy("embedding"), [expected.vector], atol=1e-5)
    client.close()


def test_refusals_reach_the_caller(triton):
    package, client = triton
    with pytest.raises(InferenceServerException, match="no model of that name"):
        client.infer("none", [texts(package, ["hello"])])
    with pytest.raises(InferenceServerException, match="has no parameter"):
        client.infer("embed", [texts(package, ["hello"])], parameters={"tops": 1})
    with pytest.raises(InferenceServerException, match="602 tokens"):
        client.infer("embed", [texts(package, ["hello " * 600])], parameters={"long": "error"})


def test_many_calls_at_once_over_http(serving):
    address = serving.address.removeprefix("http://")
    client = tritonclient.http.InferenceServerClient(address, concurrency=4)
    tensors = [texts(tritonclient.http, ["hello"])]
    pending = [client.async_infer("embed", tensors) for _ in range(8)]
    results = [one.get_result() for one in pending]
    assert all(one.as_numpy("embedding").shape == (1, 32) for one in results)
    client.close()


def test_many_calls_at_once_over_grpc(serving):
    client = tritonclient.grpc.InferenceServerClient(serving.grpc_address)
    came = queue.Queue()
    tensors = [texts(tritonclient.grpc, ["hello"])]
    for _ in range(8):
        client.async_infer("embed", tensors, lambda result, error: came.put((result, error)))
    for _ in range(8):
        result, error = came.get(timeout=20)
        assert error is None
        assert result.as_numpy("embedding").shape == (1, 32)
    client.close()
