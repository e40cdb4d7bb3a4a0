"""The model that is timed: an architecture and its arrays, random or from a directory.

Every runtime in a contest is built from the same subject, so all compute the same thing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import SettingsError
from xlmr.model.config import EncoderConfig, parse_config
from xlmr.model.jsonfiles import read_object
from xlmr.model.weights import Weights, expected_shapes, random_weights

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """What is timed.

    Attributes:
        name: how tables call it.
        config: the architecture.
        read: gives an array by our name (see `xlmr.model.weights`), float32.
    """

    name: str
    config: EncoderConfig
    read: Callable[[str], Array]

    @property
    def array_names(self) -> Sequence[str]:
        """Names that `read` knows."""
        return list(expected_shapes(self.config))


def _shape(hidden: int, layers: int, heads: int) -> EncoderConfig:
    return EncoderConfig(
        vocabulary=250_002,
        hidden=hidden,
        layers=layers,
        heads=heads,
        intermediate=4 * hidden,
        position_rows=514,
        pad_id=1,
        norm_epsilon=1e-5,
        pre_norm=False,
    )


# XLM-R base and large, and the small shape of multilingual-e5-small.
SHAPES = {"small": _shape(384, 12, 12), "base": _shape(768, 12, 12), "large": _shape(1024, 24, 16)}

# Rows of the word embedding in a random subject. A lookup costs the same in a table of any size
# that no cache holds, and seven peers then fit into memory together.
RANDOM_VOCABULARY = 50_000


def random_subject(
    shape: str, *, vocabulary: int = RANDOM_VOCABULARY, config: EncoderConfig | None = None
) -> Subject:
    """Random weights of a real shape: speed needs no training.

    Args:
        shape: one of `SHAPES`, or any name where `config` is given.
        vocabulary: rows of the word embedding.
        config: the architecture; its vocabulary is then kept.

    Raises:
        SettingsError: no such shape.
    """
    if config is None:
        if shape not in SHAPES:
            raise SettingsError(f"no shape {shape!r}", hint=f"known: {', '.join(SHAPES)}")
        config = replace(SHAPES[shape], vocabulary=vocabulary)
    # Drawn at the first read: a mistake in the request is told without waiting for them.
    draw = functools.cache(functools.partial(random_weights, config, 0))
    name = f"{shape}, random weights, {config.vocabulary:,} vocabulary rows"
    return Subject(name=name, config=config, read=lambda array: draw()[array])


def open_subject(shape: str) -> Subject:
    """A named shape with random weights, or the encoder of a model directory.

    Raises:
        SettingsError: neither a shape nor a directory.
        ModelRefusedError: the directory is no XLM-R model.
        WeightsError: its weights cannot be read.
    """
    directory = Path(shape)
    if shape in SHAPES:
        return random_subject(shape)
    if not directory.is_dir():
        raise SettingsError(
            f"{shape!r}: neither a shape nor a model directory",
            hint=f"shapes: {', '.join(SHAPES)}",
        )
    config = parse_config(read_object(directory / "config.json"))
    weights = Weights(directory, config)
    return Subject(name=directory.resolve().name, config=config, read=weights.encoder)
