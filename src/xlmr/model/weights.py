"""Files become named arrays. Foreign names meet ours in one reversible table.

Our names (i counts layers): `embeddings.word`, `embeddings.position`, `embeddings.type`,
`embeddings.norm.{weight,bias}`, `layers.{i}.{query,key,value,output,up,down}.{weight,bias}`,
`layers.{i}.{attention_norm,output_norm}.{weight,bias}` and, for pre-norm models,
`final_norm.{weight,bias}`. Matrices are [out, in], as Hugging Face stores them. Head weights keep
their Hugging Face names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import ModelRefusedError, WeightsError
from xlmr.model.config import EncoderConfig

Array = NDArray[np.float32]

# ours → Hugging Face, relative to the encoder's prefix ("" or "roberta.").
_OUTSIDE_LAYERS = {
    "embeddings.word": "embeddings.word_embeddings.weight",
    "embeddings.position": "embeddings.position_embeddings.weight",
    "embeddings.type": "embeddings.token_type_embeddings.weight",
}
_POST_NORM_OUTSIDE = {"embeddings.norm": "embeddings.LayerNorm"}
_PRE_NORM_OUTSIDE = {"final_norm": "encoder.LayerNorm"}
_IN_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}
_POST_NORM_LAYER = {
    "attention_norm": "attention.output.LayerNorm",
    "output_norm": "output.LayerNorm",
}
_PRE_NORM_LAYER = {"attention_norm": "attention.self_attn_layer_norm", "output_norm": "LayerNorm"}


def name_table(config: EncoderConfig) -> dict[str, str]:
    """Our name → Hugging Face's, for every weight of the encoder; one to one."""
    table = dict(_OUTSIDE_LAYERS)
    in_layer = _IN_LAYER | (_PRE_NORM_LAYER if config.pre_norm else _POST_NORM_LAYER)
    outside = _PRE_NORM_OUTSIDE if config.pre_norm else _POST_NORM_OUTSIDE
    for part in ("weight", "bias"):
        table |= {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in outside.items()}
        for i in range(config.layers):
            table |= {
                f"layers.{i}.{ours}.{part}": f"encoder.layer.{i}.{theirs}.{part}"
                for ours, theirs in in_layer.items()
            }
    return table


def expected_shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """Our name → the shape it must have."""
    D, F = config.hidden, config.intermediate
    matrices = {"up": (F, D), "down": (D, F)}
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word": (config.vocabulary, D),
        "embeddings.position": (config.position_rows, D),
        "embeddings.type": (1, D),
    }
    for name in name_table(config):
        if name in shapes:
            continue
        *_, owner, part = name.split(".")
        matrix = (D, D) if owner in _IN_LAYER else (D,)
        shape = matrices.get(owner, matrix)
        shapes[name] = shape if part == "weight" else shape[:1]
    return shapes


class SafetensorsFile:
    """A memory-mapped safetensors file; arrays are read and widened to float32 on demand.

    Reads float32, float16 and bfloat16 without torch.

    Raises:
        WeightsError: the file is missing, truncated or not safetensors.
    """

    _WIDTHS: ClassVar = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._bytes: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")
            header_size = int.from_bytes(self._bytes[:8].tobytes(), "little")
            if not 2 <= header_size <= len(self._bytes) - 8:
                raise ValueError("header does not fit the file")
            header = json.loads(self._bytes[8 : 8 + header_size].tobytes())
            header.pop("__metadata__", None)
            self._start = 8 + header_size
            self._entries: dict[str, tuple[str, tuple[int, ...], int, int]] = {
                name: (e["dtype"], tuple(e["shape"]), *e["data_offsets"])
                for name, e in header.items()
            }
            if any(not 0 <= start <= end for _, _, start, end in self._entries.values()):
                raise ValueError("an array lies outside its data")
            end = max((entry[3] for entry in self._entries.values()), default=0)
            if self._start + end > len(self._bytes):
                raise ValueError(f"{self._start + end - len(self._bytes)} bytes are missing")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
            raise WeightsError(
                f"{path}: not a complete safetensors file ({fault})",
                hint="copy or import the model again",
            ) from fault

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one array, without reading it."""
        return self._entries[name][1]

    def raw(self, name: str) -> tuple[str, NDArray[np.uint8]]:
        """Number format and bytes of one array as stored; the bytes are a view of the file."""
        dtype, _, start, end = self._entries[name]
        return dtype, self._bytes[self._start + start : self._start + end]

    def read(self, name: str) -> Array:
        """One array as float32, in its stored shape. May be a read-only view of the file.

        Raises:
            WeightsError: no such array, or a number format that weights do not come in.
        """
        if name not in self._entries:
            raise WeightsError(f"{self.path}: no weight named {name}")
        dtype, shape, start, end = self._entries[name]
        raw = self._bytes[self._start + start : self._start + end]
        if end - start != int(np.prod(shape, dtype=np.int64)) * self._WIDTHS.get(dtype, 0):
            raise WeightsError(f"{self.path}: {name} has {end - start} bytes for {dtype} {shape}")
        if dtype == "F32":
            values = (
                raw.view("<f4") if (self._start + start) % 4 == 0 else np.frombuffer(raw, "<f4")
            )
        elif dtype == "F16":
            values = np.frombuffer(raw, "<f2").astype(np.float32)
        elif dtype == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            raise WeightsError(f"{self.path}: {name} is {dtype}; weights must be F32, F16 or BF16")
        return values.reshape(shape)


class Weights:
    """A model directory's arrays: the encoder under our names, heads under Hugging Face's.

    Opens `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
    """

    def __init__(self, directory: Path, config: EncoderConfig) -> None:
        self.files = [SafetensorsFile(path) for path in weight_files(directory)]
        self._home = {name: file for file in self.files for name in file}
        prefix = "roberta." if any(name.startswith("roberta.") for name in self._home) else ""
        self._foreign = {ours: prefix + theirs for ours, theirs in name_table(config).items()}
        self._shapes = expected_shapes(config)
        for ours, theirs in self._foreign.items():
            if theirs not in self._home:
                raise WeightsError(f"{directory}: {theirs} is missing")
            if (shape := self._home[theirs].shape(theirs)) != self._shapes[ours]:
                raise ModelRefusedError(
                    f"shape {shape}, config.json says {self._shapes[ours]}", field=theirs
                )

    def encoder(self, name: str) -> Array:
        """One array of the encoder by our name, float32."""
        theirs = self._foreign[name]
        return self._home[theirs].read(theirs)

    def encoder_names(self) -> list[str]:
        """Our names, in a fixed order."""
        return list(self._foreign)

    def head(self, name: str) -> Array:
        """One array outside the encoder by its Hugging Face name, float32."""
        if name not in self._home:
            raise WeightsError(f"no weight named {name}", hint="the checkpoint lacks this head")
        return self._home[name].read(name)

    def has(self, name: str) -> bool:
        """Whether a weight of that Hugging Face name exists."""
        return name in self._home


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model directory, one or several shards.

    Raises:
        WeightsError: there are none, or a listed shard is missing or lies outside the directory.
    """
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if not index.exists():
        raise WeightsError(
            f"{directory}: no model.safetensors",
            hint="`xlmr import DIR --out OUT` converts pytorch_model.bin",
        )
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as fault:
        raise WeightsError(f"{index}: not a shard index ({fault})") from fault
    for name in names:
        if not re.fullmatch(r"[\w.-]+\.safetensors", name) or not (directory / name).exists():
            raise WeightsError(f"{directory}: shard {name!r} is missing")
    return [directory / name for name in names]


def random_weights(config: EncoderConfig, seed: int) -> Mapping[str, Array]:
    """Random weights of the real shape under our names, for benchmarks: speed needs no training."""
    generator = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for name, shape in expected_shapes(config).items():
        if "norm.weight" in name:
            arrays[name] = np.ones(shape, np.float32)
        else:
            arrays[name] = generator.standard_normal(shape, np.float32) * np.float32(0.02)
    return arrays
