"""The peers: other runtimes, one file each, built from the same weights and checked against ours.

None is a dependency of ours. A peer that is not installed is skipped with a word.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xlmr.errors import EngineError
from xlmr.evaluation.speed.contestant import Array, Contestant
from xlmr.evaluation.speed.subject import Subject, random_subject
from xlmr.evaluation.speed.workloads import batch_of
from xlmr.model.config import EncoderConfig
from xlmr.model.encoder import encode_text
from xlmr.model.pooling import mean


@dataclass(frozen=True, slots=True)
class Peer:
    """A runtime in one number format.

    Attributes:
        name: as its contestant calls itself.
        module: in this package.
        precision: as its module calls it.
        least_cosine: to our float32 reference; below it the peer computes something else.
    """

    name: str
    module: str
    precision: str
    least_cosine: float


PEERS = (
    Peer("onnxruntime fp32", "onnx_runtime", "fp32", 0.9999),
    Peer("onnxruntime int8", "onnx_runtime", "int8", 0.97),
    Peer("openvino bf16", "open_vino", "bf16", 0.999),
    Peer("openvino int8", "open_vino", "int8", 0.99),
    Peer("ctranslate2 int8", "ctranslate2", "int8", 0.99),
    Peer("torch fp32", "torch_cpu", "fp32", 0.9999),
    Peer("torch bf16", "torch_cpu", "bf16", 0.999),
)

# Wide enough for every peer's kernels, small enough to build in a second.
_TINY = EncoderConfig(
    vocabulary=200,
    hidden=64,
    layers=2,
    heads=2,
    intermediate=128,
    position_rows=66,
    pad_id=1,
    norm_epsilon=1e-5,
    pre_norm=False,
)


@contextmanager
def open_peer(peer: Peer, subject: Subject, *, threads: int) -> Iterator[Contestant]:
    """A peer with the subject loaded; what it wrote is deleted afterwards.

    Raises:
        MissingExtraError: its packages are not installed.
        ModelRefusedError: the peers cannot compute this model.
    """
    module = importlib.import_module(f"{__name__}.{peer.module}")
    with tempfile.TemporaryDirectory(prefix="xlmr-bench-") as scratch:
        contestant: Contestant = module.open_contestant(
            subject, Path(scratch), precision=peer.precision, threads=threads
        )
        try:
            yield contestant
        finally:
            contestant.close()


def check_parity(peer: Peer, *, threads: int = 1) -> float:
    """Holds a peer against our readable reference on a tiny random model.

    Returns:
        The lowest cosine between the two mean vectors of a text, over texts of several lengths.

    Raises:
        EngineError: it lies below what the peer's number format explains.
        MissingExtraError: its packages are not installed.
    """
    subject = _tiny_subject()
    weights = {name: subject.read(name) for name in subject.array_names}
    batch = batch_of([5, 17, 1, 64], subject.config)
    with open_peer(peer, subject, threads=threads) as contestant:
        theirs = contestant.texts(contestant.prepare(batch)(), batch)
    cosines = []
    for text, hidden_LD in enumerate(theirs):
        ids_L = batch.ids_T[batch.starts[text] : batch.starts[text + 1]]
        reference_LD = encode_text(ids_L, weights, subject.config)
        cosines.append(_cosine(mean(hidden_LD), mean(reference_LD)))
    worst = min(cosines)
    if not worst >= peer.least_cosine:
        raise EngineError(
            f"{peer.name} computes something else: cosine {worst:.4f} on a tiny model,"
            f" at least {peer.least_cosine} expected",
            hint="its version may be newer than this benchmark",
        )
    return worst


def _tiny_subject() -> Subject:
    """Weights large enough that attention and feed-forward decide the answer."""
    subject = random_subject("tiny", config=_TINY)

    def read(name: str) -> Array:
        array: Array = subject.read(name)
        return array if "norm.weight" in name else array * np.float32(8)

    return Subject(name=subject.name, config=subject.config, read=read)


def _cosine(a_D: NDArray[np.float32], b_D: NDArray[np.float32]) -> float:
    return float(a_D @ b_D / (np.linalg.norm(a_D) * np.linalg.norm(b_D)))
