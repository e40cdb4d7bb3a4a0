"""Peers that are installed compute what we compute; the others say how they are installed."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xlmr.errors import EngineError, MissingExtraError, ModelRefusedError
from xlmr.evaluation.speed import peers
from xlmr.evaluation.speed.ours import Ours
from xlmr.evaluation.speed.peers import PEERS, Peer, check_parity, open_peer
from xlmr.evaluation.speed.peers.vendor import vendor
from xlmr.evaluation.speed.subject import SHAPES, random_subject
from xlmr.evaluation.speed.workloads import batch_of
from xlmr.model.encoder import encode_text

NEEDED = {
    "onnx_runtime": ("onnx", "onnxruntime"),
    "open_vino": ("onnx", "openvino"),
    "ctranslate2": ("ctranslate2", "torch", "transformers"),
    "torch_cpu": ("torch", "transformers"),
}
TINY = replace(SHAPES["small"], vocabulary=90, hidden=64, layers=2, heads=2, intermediate=128)


def missing(peer: Peer) -> bool:
    return not all(importlib.util.find_spec(name) for name in NEEDED[peer.module])


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_computes_the_same_or_says_how_to_install_it(peer: Peer) -> None:
    if missing(peer):
        with pytest.raises(MissingExtraError, match=r"xlmr\[peers\]"):
            check_parity(peer)
        return
    assert check_parity(peer) > peer.least_cosine
    with open_peer(peer, random_subject("tiny", config=TINY), threads=1) as contestant:
        assert contestant.name == peer.name
        assert contestant.version


def test_a_peer_that_computes_something_else_is_caught() -> None:
    torch = next(peer for peer in PEERS if peer.name == "torch fp32")
    with pytest.raises(EngineError, match="torch fp32 computes something else: cosine"):
        check_parity(replace(torch, least_cosine=1.1))


def test_a_wrong_weight_moves_the_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model is one on which every part of the encoder matters."""
    subject = peers._tiny_subject()
    wrong = replace(
        subject, read=lambda name: subject.read(name) * (0 if name.endswith("down.weight") else 1)
    )
    torch = next(peer for peer in PEERS if peer.name == "torch fp32")
    open_right = peers.open_peer
    monkeypatch.setattr(
        peers, "open_peer", lambda peer, _, *, threads: open_right(peer, wrong, threads=threads)
    )
    with pytest.raises(EngineError, match="something else"):
        check_parity(torch)


def test_pre_norm_models_have_no_peer() -> None:
    subject = random_subject("xl", config=replace(TINY, pre_norm=True))
    torch = next(peer for peer in PEERS if peer.name == "torch fp32")
    with (
        pytest.raises(ModelRefusedError, match="post-norm"),
        open_peer(torch, subject, threads=1),
    ):
        pass


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(MissingExtraError, match="nowhere_at_all is not installed"):
        vendor("nowhere_at_all.part")


@pytest.mark.parametrize("pre_norm", [False, True])
def test_ours_computes_the_subject(tmp_path: Path, pre_norm: bool) -> None:
    subject = random_subject("tiny", config=replace(TINY, pre_norm=pre_norm))
    weights = {name: subject.read(name) for name in subject.array_names}
    ours = Ours.open(subject, tmp_path, precision="fp32", threads=1)
    batch = batch_of([5, 1, 30], subject.config)
    for text, hidden_LD in enumerate(ours.texts(ours.prepare(batch)(), batch)):
        ids_L = batch.ids_T[batch.starts[text] : batch.starts[text + 1]]
        reference_LD = encode_text(ids_L, weights, subject.config)
        np.testing.assert_allclose(hidden_LD, reference_LD, atol=1e-4)
    ours.close()
