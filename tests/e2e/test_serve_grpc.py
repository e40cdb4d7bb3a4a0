"""`xlmr serve --grpc-port`: announced, asked, and closed in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.tiny import tiny_model

from xlmr.model.predictor import load
from xlmr.serving.grpc.messages import native


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("grpc"), "embed")


@pytest.fixture
def start(model: Path, tmp_path: Path) -> Iterator:
    """Starts `xlmr serve`, and gives its process and what it announced."""
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str):
        command = [sys.executable, "-m", "xlmr", "serve", str(model), "--runtime", "reference"]
        process = subprocess.Popen(
            [*command, "--port", "0", "--grpc-port", "0", "--json", *options],
            env=os.environ | {"XLMR_CACHE_DIR": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        return process, json.loads(line)

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def embed(channel: grpc.Channel, text: str) -> list[float]:
    call = channel.unary_unary(
        "/xlmr.v1.Xlmr/Embed",
        request_serializer=native.EmbedRequest.SerializeToString,
        response_deserializer=native.EmbedResponse.FromString,
    )
    return list(call(native.EmbedRequest(texts=[text]), timeout=20).items[0].vector)


def test_it_is_announced_answers_and_ends_with_the_server(start, model):
    process, said = start()
    with grpc.insecure_channel(said["grpc_address"]) as channel:
        vector = embed(channel, "hello")
        with load(model, runtime="reference") as predictor:
            assert np.allclose(vector, predictor.embed(["hello"])[0].vector, atol=1e-5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        with pytest.raises(grpc.RpcError) as gone:
            embed(channel, "hello")
    assert gone.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_taken_port_is_one_clear_error(start, model):
    _, said = start()
    port = said["grpc_address"].rpartition(":")[2]
    command = [sys.executable, "-m", "xlmr", "serve", str(model), "--runtime", "reference"]
    done = subprocess.run(
        [*command, "--port", "0", "--grpc-port", port], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port} for gRPC" in done.stderr
    assert "Traceback" not in done.stderr
