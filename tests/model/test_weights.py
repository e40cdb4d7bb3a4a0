from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import tiny_model, tiny_network

from xlmr.errors import ModelRefusedError, WeightsError
from xlmr.model.config import parse_config
from xlmr.model.weights import (
    SafetensorsFile,
    Weights,
    expected_shapes,
    name_table,
    random_weights,
    weight_files,
)


def opened(directory: Path) -> Weights:
    return Weights(directory, parse_config(json.loads((directory / "config.json").read_text())))


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("kind", ["embed", "classify"])
def test_every_weight_under_our_name(tmp_path: Path, kind: str, pre_norm: bool) -> None:
    """`embed` is stored without the prefix `roberta.`, `classify` with it."""
    weights = opened(tiny_model(tmp_path, kind, pre_norm=pre_norm))
    network = tiny_network(kind, pre_norm=pre_norm)
    theirs = getattr(network, "roberta", network).state_dict()
    table = name_table(parse_config(network.config.to_dict()))
    assert len(set(table.values())) == len(table)
    assert {name for name in theirs if "pooler" not in name} == set(table.values())
    for ours, foreign in table.items():
        np.testing.assert_array_equal(weights.encoder(ours), theirs[foreign].numpy())


def test_head_weights_keep_their_names(tmp_path: Path) -> None:
    weights = opened(tiny_model(tmp_path, "classify"))
    assert weights.has("classifier.out_proj.weight")
    assert weights.head("classifier.out_proj.weight").shape == (3, 32)
    with pytest.raises(WeightsError, match="qa_outputs"):
        weights.head("qa_outputs.weight")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_number_formats_widen_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    # One byte in front, so that what follows is not aligned to its width.
    stored = {"a": torch.zeros(1, dtype=torch.uint8), "b": values}
    safetensors.torch.save_file(stored, tmp_path / "w.safetensors")
    file = SafetensorsFile(tmp_path / "w.safetensors")
    assert set(file) == {"a", "b"}
    np.testing.assert_array_equal(file.read("b"), values.float().numpy())
    assert file.read("b").dtype == np.float32


def test_formats_that_weights_do_not_come_in(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.arange(3)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="I64"):
        SafetensorsFile(tmp_path / "w.safetensors").read("a")


def test_shards(tmp_path: Path) -> None:
    whole = opened(tiny_model(tmp_path / "whole", "embed"))
    sharded = tiny_model(tmp_path / "sharded", "embed", max_shard_size="20KB")
    assert len(weight_files(sharded)) > 1
    for name in whole.encoder_names():
        np.testing.assert_array_equal(opened(sharded).encoder(name), whole.encoder(name))


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "gone.safetensors"])
def test_a_shard_outside_the_directory_or_missing(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    directory = tmp_path / "model"
    directory.mkdir()
    index = {"weight_map": {"embeddings.word_embeddings.weight": name}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="shard"):
        weight_files(directory)


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        weight_files(tmp_path)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = tiny_model(tmp_path, "embed") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="1 bytes are missing"):
        SafetensorsFile(path)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused_and_never_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("hostile") / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError):
        SafetensorsFile(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": ["0", "8"]},
        {"dtype": 4, "shape": [2], "data_offsets": [0, 8]},
        [1, 2, 3],
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, entry: object) -> None:
    header = json.dumps({"a": entry}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(WeightsError):
        SafetensorsFile(path).read("a")


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    path = tiny_model(tmp_path, "embed")
    arrays = safetensors.torch.load_file(path / "model.safetensors")
    del arrays["encoder.layer.1.output.dense.bias"]
    safetensors.torch.save_file(arrays, path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        opened(path)


def test_a_shape_that_the_config_contradicts_is_named(tmp_path: Path) -> None:
    path = tiny_model(tmp_path, "embed")
    config = json.loads((path / "config.json").read_text()) | {"intermediate_size": 48}
    with pytest.raises(ModelRefusedError, match=r"intermediate\.dense"):
        Weights(path, parse_config(config))


def test_random_weights_have_the_expected_shapes() -> None:
    config = parse_config(tiny_network("embed").config.to_dict())
    shapes = {name: array.shape for name, array in random_weights(config, seed=0).items()}
    assert shapes == expected_shapes(config)
