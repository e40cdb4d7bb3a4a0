"""CTranslate2: int8 with a scale for each row of activations; it takes padding out by itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from xlmr.evaluation.speed.contestant import Array, unpad
from xlmr.evaluation.speed.peers.torch_cpu import build_network
from xlmr.evaluation.speed.peers.vendor import vendor
from xlmr.evaluation.speed.subject import Subject
from xlmr.types import Batch


class CTranslate2:
    """One encoder."""

    def __init__(self, encoder: Any, name: str, version: str) -> None:
        self.name = name
        self.version = version
        self._encoder = encoder

    def prepare(self, batch: Batch) -> Callable[[], Any]:
        """See `Contestant.prepare`: lists of ids."""
        texts = [batch.ids_T[start:end].tolist() for start, end in itertools.pairwise(batch.starts)]
        encoder = self._encoder
        return lambda: encoder.forward_batch(texts).last_hidden_state

    def texts(self, output: Any, batch: Batch) -> list[Array]:
        """See `Contestant.texts`."""
        return unpad(np.array(output, np.float32), batch)

    def close(self) -> None:
        """See `Contestant.close`."""
        self._encoder = None


def open_contestant(
    subject: Subject, scratch: Path, *, precision: str, threads: int
) -> CTranslate2:
    """Converts the subject and opens it; `precision` is any compute type CTranslate2 has.

    Raises:
        MissingExtraError: ctranslate2, torch or transformers is not installed.
        ModelRefusedError: a pre-norm model.
    """
    ctranslate2 = vendor("ctranslate2")
    loaders = vendor("ctranslate2.converters.transformers")
    network = build_network(subject)
    # A field that transformers 5 dropped; XLM-R knows no other kind of positions.
    network.config.position_embedding_type = "absolute"
    spec = loaders.XLMRobertaLoader().get_model_spec(
        SimpleNamespace(config=network.config, roberta=network)
    )
    # The converter would take these from a tokenizer; ids go in as they are, so any names do.
    spec.register_vocabulary([str(i) for i in range(subject.config.vocabulary)])
    spec.config.unk_token = "3"
    spec.config.layer_norm_epsilon = subject.config.norm_epsilon
    spec.validate()
    spec.optimize(quantization=precision)
    directory = scratch / "ctranslate2"
    directory.mkdir()
    spec.save(str(directory))
    encoder = ctranslate2.Encoder(
        str(directory),
        device="cpu",
        compute_type=precision,
        inter_threads=1,
        intra_threads=threads,
    )
    return CTranslate2(encoder, f"ctranslate2 {precision}", ctranslate2.__version__)
